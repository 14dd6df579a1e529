"""The commit rule: how much of a draft will not change any more.

What two successive drafts agree on is committed (LocalAgreement-2: Liu et al., 2020; Macháček et
al., 2023), or what attends to audio that is old enough (AlignAtt: Papi et al., 2023); whole words
only, either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from textpro_stream.whisper.draft import Drafted, Outcome, View
from textpro_stream.whisper.tokens import Tokens


@dataclass(frozen=True, slots=True)
class CommitRule:
    """When a token may go. Positions are 20 ms, logprobs natural logarithms."""

    by: Literal["agreement", "attention"] = "agreement"

    # Whisper, of any size: how far its attention wanders from the sound of a token.
    settled: int = 16  # positions behind the end at which attention lets go of a token: 0.32 s
    old: int = 16  # positions behind the end at which a sure token needs no second draft: 0.32 s

    # tiny.en: confidences shift with size and training.
    sure: float = -0.3  # logprob above which it is sure
    # Logprob of the least sure token above which hearing a turn again changes nothing for the
    # better: in 126 turns, 96 lay below it, and all that was gained (docs/notes/0015).
    doubted: float = -0.7
    # Positions of a segment that is heard again: 5 to 8 s. Under the adapter a shorter one, which
    # streaming saw nearly whole, gains nothing; a longer one gains less and is told later than
    # anybody waits (docs/notes/0016).
    least: int = 250
    most: int = 400

    # English: a pause inside a sentence.
    pause: int = 40  # positions of silence after which trailing punctuation may go: 0.8 s

    def in_doubt(self, words: Sequence[Drafted], n_heard: int) -> bool:
        """Whether hearing these words again may change them for the better, and in time.

        Args:
            words: of the segment, its last ones included.
            n_heard: positions of its audio.
        """
        in_time = self.least <= n_heard <= self.most
        return in_time and min((word.logprob for word in words), default=0.0) <= self.doubted

    def n_agreed(
        self, outcome: Outcome, before: Sequence[Drafted], view: View, tokens: Tokens
    ) -> int:
        """How many drafted tokens may be committed: whole words only.

        Args:
            outcome: the draft, and why it ended.
            before: the draft of the step before.
            view: what was heard.
            tokens: the vocabulary.
        """
        draft, n_heard = outcome.draft, view.n_heard
        if view.final:
            return len(draft)
        n = 0
        if self.by == "attention":
            while n < len(draft) and draft[n].position < n_heard - self.settled:
                n += 1
        else:
            closed = len(draft) - (outcome.why == "edge")
            while n < closed and (
                (n < len(before) and draft[n].token == before[n].token)
                or (draft[n].logprob > self.sure and draft[n].position < n_heard - self.old)
            ):
                n += 1
        # A word ends where the next begins, or where the model sees an end of text.
        while 0 < n < len(draft) and not _ends_word(draft[n].token, tokens):
            n -= 1
        whole = n > 0 and draft[n - 1].position < n_heard - self.settled
        if n == len(draft) and outcome.why not in ("end", "silence") and not whole:
            while n and not tokens.starts_word(draft[n - 1].token):
                n -= 1
            n = max(0, n - 1)
        # Punctuation is held until a word follows: what comes after may change it.
        while n and tokens.is_punctuation(draft[n - 1].token):
            if n_heard - draft[n - 1].position >= self.pause:
                break
            n -= 1
        return n


def _ends_word(following: int, tokens: Tokens) -> bool:
    return tokens.starts_word(following) or tokens.is_punctuation(following)
