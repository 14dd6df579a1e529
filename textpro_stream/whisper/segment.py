"""One segment: an encoder cache, a decoder cache, words committed and a draft that may change.

At each block the draft is verified in one batched pass together with the last committed tokens
(their cached rows were computed while attending to less audio; recomputing 16 of them brought WER
from 18.5 to 8.3), then extended token by token. What two successive drafts agree on is committed
(LocalAgreement-2: Liu et al., 2020; Macháček et al., 2023), or what attends to audio that is old
enough (AlignAtt: Papi et al., 2023). Positions are counted from the segment's origin.
Knows nothing of samples, streams or turns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from textpro_stream.whisper.decoder import Choice, DecoderState
from textpro_stream.whisper.encoder import EncoderState
from textpro_stream.whisper.tokens import Tokens

REFRESHED = 16  # committed tokens recomputed at each block
EDGE = 4  # positions: a token that attends this close to the end has not been heard whole
SETTLED = 16  # positions behind the end at which AlignAtt lets go of a token
BACK = 25  # positions: attention that jumps back this far is repeating itself
TOKENS_PER_SECOND = 8  # fast speech has 4 to 5
UNCOVERED = 25  # positions of speech without a word that forbid an end of text: 0.5 s
TAIL = 8  # positions behind a word's attended one that may be its own end: 0.16 s
COVERED = 12  # positions behind a word's attended one that still belong to it
PAUSE = 40  # positions of silence after which trailing punctuation may go: 0.8 s
NO_SPEECH = 0.6  # probability above which an utterance begins only with confident words
SPEECH = 0.3  # probability of no-speech below which it is speech, however unclear
UNSURE = -1.2  # mean logprob below which an utterance has not begun
DOUBTFUL = -0.9  # the same, where no-speech is probable
LOST = 1  # words in a row that attend backwards before the walk counts as lost
LOST_FINAL = 3  # the same where no audio can follow that would explain them
SURE = -0.3  # logprob above which a token needs no second draft, once its audio is old
OLD = 32  # positions behind the end at which it is: 0.64 s
STUCK = 6  # words' tokens that attend to one place: nobody speaks so fast
LOOP_SPAN = 4  # positions a repeated token must take to be real: 0.08 s
STUCK_SPAN = 8  # positions: 0.16 s


@dataclass(frozen=True, slots=True)
class Drafted:
    """A token that the decoder has proposed."""

    token: int
    position: int  # attended, from the segment's origin
    logprob: float
    state: Tensor  # (d_model,) middle decoder layer


@dataclass(slots=True)
class View:
    """What a segment may look at in one step."""

    n_heard: int  # positions backed by audio rather than by added silence
    speech: Sequence[bool]  # per position: loud enough to be speech
    sound: Sequence[bool]  # per position: loud enough to be the faint end of it
    final: bool  # no more audio will come


@dataclass(slots=True)
class Outcome:
    """What one step of the decoder led to."""

    draft: list[Drafted] = field(default_factory=list)
    n_agreed: int = 0  # of the draft, safe to commit
    why: str = ""  # what ended the walk


class Segment:
    """At most one Whisper window of audio and its words."""

    def __init__(
        self,
        encoder: EncoderState,
        decoder: DecoderState,
        tokens: Tokens,
        *,
        carried: Sequence[Drafted] = (),
        commit: str = "agreement",
        guards: bool = True,
    ) -> None:
        """Open.

        Args:
            encoder: empty.
            decoder: empty.
            tokens: the vocabulary.
            carried: words already committed whose audio this segment hears again.
            commit: "agreement" or "attention".
            guards: test for no-speech, pace, repetition and uncovered speech.
        """
        self.encoder, self.decoder = encoder, decoder
        self._tokens, self._commit, self._guards = tokens, commit, guards
        self.committed: list[Drafted] = list(carried)
        self.draft: list[Drafted] = []
        self._context = [*tokens.prompt, *(d.token for d in carried)]
        self.muted = False  # whether the draft is taken for noise put into words
        self._begun = False  # whether the decoder's cache holds the context

    @property
    def last_position(self) -> int:
        """The furthest that committed words attend to; 0 before the first."""
        return max((d.position for d in self.committed[-3:]), default=0)

    def peek(self, view: View) -> Outcome:
        """As `look`, without a trace: what it writes, the next look computes again."""
        begun, muted = self._begun, self.muted
        outcome = self.look(view)
        self._begun, self.muted = begun, muted
        return outcome

    def look(self, view: View) -> Outcome:
        """Verify and extend the draft over what is heard now. Changes caches, nothing else."""
        base = len(self._context) - 1  # place of the token whose choice comes first
        begin = max(0, base - REFRESHED) if self._begun else 0
        self._begun = True
        fed = self._context[begin:] + [d.token for d in self.draft]
        at_start = not self.committed
        n_choices = len(fed) if at_start else len(self.draft) + 1
        choices, states = self.decoder.run(
            fed, begin, n_choices, first=len(self._tokens.prompt) - 1 if at_start else None
        )
        if at_start:
            silent = math.exp(choices[0].no_speech)
            choices, states = choices[base:], states[base:]
        outcome = self._walk(view, choices, states)
        self.muted = at_start and self._guards and self._no_speech(silent, outcome, view)
        if self.muted:  # kept to be compared with the next draft, not to be shown
            return Outcome([] if view.final else outcome.draft, why="no_speech")
        outcome.n_agreed = self._agreed(outcome, view)
        return outcome

    def take(self, outcome: Outcome) -> list[Drafted]:
        """Commit what the outcome is sure of; keep the rest as the draft."""
        new = outcome.draft[: outcome.n_agreed]
        self.draft = outcome.draft[outcome.n_agreed :]
        self.committed += new
        self._context += [d.token for d in new]
        return new

    @staticmethod
    def _no_speech(silent: float, outcome: Outcome, view: View) -> bool:
        """Whether the first words of an utterance are noise put into words.

        No single figure tells: the model's own no-speech probability is above 0.6 on some speech
        and below 0.4 on bird song; the words it invents for noise are improbable or circular.
        """
        draft = outcome.draft
        if not draft:
            return False
        sure = sum(d.logprob for d in draft) / len(draft)
        circular = outcome.why in ("loop", "stuck", "pace")
        if view.final and silent < SPEECH:  # unsure words for what is surely speech, and the last
            return False
        return sure < UNSURE or (silent > NO_SPEECH and (sure < DOUBTFUL or circular))

    def _walk(self, view: View, choices: list[Choice], states: Tensor) -> Outcome:
        """Follow the verified draft as far as it holds, then decode on."""
        walked: list[Drafted] = []
        known = [d.token for d in self.draft]
        at = 0  # in choices
        limit = int(view.n_heard / 50 * TOKENS_PER_SECOND) + 6
        room = self.decoder.context - len(self._context) - 2
        last = self.last_position
        lost = 0  # tokens in a row that attend backwards
        while True:
            choice = choices[at]
            token, logprob = choice.token, choice.logprob
            if token == self._tokens.end and self._uncovered(view, last, choice):
                token, logprob = choice.runner_up, choice.runner_up_logprob
            if token == self._tokens.end:
                return Outcome(walked, why="end")
            if self._guards and self._silent(view, last) and self._tokens.starts_word(token):
                return Outcome(walked, why="silence")
            mark = self._tokens.is_punctuation(token)
            back = choice.position < last - BACK and self._tokens.starts_word(token)
            position = last if mark or choice.position < last - BACK else choice.position
            drafted = Drafted(token, position, logprob, states[at])
            if not view.final and position >= view.n_heard - EDGE:
                return Outcome([*walked, drafted], why="edge")
            if self._guards:
                if view.final and position > view.n_heard + 30:
                    return Outcome(walked, why="beyond")
                lost = 0 if mark else lost + 1 if back else 0
                if lost == (LOST_FINAL if view.final else LOST):
                    return Outcome(walked[: len(walked) - lost + 1], why="back")
                if self._stuck(walked):
                    return Outcome(walked[: len(walked) - STUCK + 1], why="stuck")
                if len(self.committed) + len(walked) >= limit:
                    return Outcome(walked, why="pace")
                if _repeats([*self.committed[-24:], *walked, drafted]):
                    return Outcome(walked, why="loop")
            if len(walked) >= room:
                return Outcome(walked, why="full")
            walked.append(drafted)
            last = max(d.position for d in (*self.committed, *walked)[-3:])
            if at < len(known) and known[at] == token:
                at += 1
                continue
            choices, states = self.decoder.run(
                [token], len(self._context) - 1 + len(walked), n_choices=1
            )
            at, known = 0, []

    def _stuck(self, walked: list[Drafted]) -> bool:
        """Whether the last words all attend to one place."""
        said = [d for d in walked[-2 * STUCK :] if not self._tokens.is_punctuation(d.token)]
        places = [d.position for d in said[-STUCK:]]
        return len(places) == STUCK and max(places) - min(places) < STUCK_SPAN

    def _silent(self, view: View, last: int) -> bool:
        """Whether nothing loud follows the last word: then no word follows either."""
        return last > 0 and not any(view.sound[last + TAIL :])

    def _uncovered(self, view: View, last: int, choice: Choice) -> bool:
        """Whether the model calls it the end while it attends to speech that no word explains."""
        if not self._guards or view.final:
            return False
        if not last + COVERED < choice.position < view.n_heard:
            return False
        return sum(view.speech[last + COVERED : view.n_heard - SETTLED]) > UNCOVERED

    def _agreed(self, outcome: Outcome, view: View) -> int:
        """How many drafted tokens may be committed: whole words only."""
        draft = outcome.draft
        if view.final:
            return len(draft)
        n = 0
        if self._commit == "attention":
            while n < len(draft) and draft[n].position < view.n_heard - SETTLED:
                n += 1
        else:
            closed = len(draft) - (outcome.why == "edge")
            while n < closed and (self._voted(n, draft[n]) or self._settled(draft[n], view)):
                n += 1
        # A word ends where the next begins, or where the model sees an end of text.
        while 0 < n < len(draft) and not self._word_ends(draft[n].token):
            n -= 1
        whole = n > 0 and draft[n - 1].position < view.n_heard - SETTLED
        if n == len(draft) and outcome.why not in ("end", "silence") and not whole:
            while n and not self._tokens.starts_word(draft[n - 1].token):
                n -= 1
            n = max(0, n - 1)
        # Punctuation is held until a word follows: what comes after may change it.
        while n and self._tokens.is_punctuation(draft[n - 1].token):
            if view.n_heard - draft[n - 1].position >= PAUSE:
                break
            n -= 1
        return n

    def _voted(self, n: int, drafted: Drafted) -> bool:
        """Whether the last draft said the same here."""
        return n < len(self.draft) and drafted.token == self.draft[n].token

    def _settled(self, drafted: Drafted, view: View) -> bool:
        """Whether one vote is enough: a sure token whose audio is old."""
        return drafted.logprob > SURE and drafted.position < view.n_heard - OLD

    def _word_ends(self, following: int) -> bool:
        return self._tokens.starts_word(following) or self._tokens.is_punctuation(following)


def _repeats(words: Sequence[Drafted]) -> bool:
    """Whether the end is one n-gram over and over while attention stands still.

    Four times one token, else three times. People do say "no, no, no": then attention moves on.
    """
    for n in (1, 2, 3, 4, 6, 8):
        size = n * (4 if n == 1 else 3)
        tail = words[-size:]
        if len(tail) == size and all(tail[i].token == tail[i % n].token for i in range(n, size)):
            moved = max(d.position for d in tail) - min(d.position for d in tail)
            if moved < LOOP_SPAN * size:
                return True
    return False
