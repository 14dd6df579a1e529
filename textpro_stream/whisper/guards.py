"""Guards: tests by evidence that keep the decoder from writing what nobody said.

Unguarded, the model writes words on every clip of noise, loops over silence and ends texts too
early; none of its own confidences tells. Knows nothing of blocks or commits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textpro_stream.whisper.decoding import Choice
from textpro_stream.whisper.draft import Drafted, Outcome, Why
from textpro_stream.whisper.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Guards:
    """Numbers of the tests, and the tests. Positions are 20 ms, logprobs natural logarithms.

    By what they depend on: look there first when another model or language does badly.
    """

    # Whisper, of any size: how its attention and its log-mel behave.
    loud: float = 2.2  # log10 units below the loudest bin at which a position still is speech
    faint: float = 4.0  # the same for the last sounds of a word
    tail: int = 8  # positions behind a word's attended one that may be its own end: 0.16 s
    covered: int = 12  # positions behind a word's attended one that still belong to it
    uncovered: int = 25  # positions of speech without a word that forbid an end of text: 0.5 s
    fresh: int = 16  # last positions heard, whose words may still be unsaid: 0.32 s
    beyond: int = 30  # positions behind the audio where no word can lie; its end is blurred: 0.6 s

    # tiny.en, measured on speech and on noise: confidences shift with size and training.
    no_speech: float = 0.4  # probability above which an utterance begins only with confident words
    speech: float = 0.3  # probability of no-speech below which it is speech, however unclear
    unsure: float = -1.2  # mean logprob below which an utterance has not begun
    doubtful: float = -0.9  # the same, where no-speech is probable
    lost: int = 1  # words in a row that attend backwards before the walk counts as lost
    lost_final: int = 3  # the same where no audio can follow that would explain them

    # English, in Whisper's tokens: other languages need more tokens a word.
    tokens_per_second: int = 8  # fast speech has 4 to 5
    spare_tokens: int = 6  # above that: short clips are all beginnings and endings
    stuck: int = 6  # words' tokens that attend to one place: nobody speaks so fast
    stuck_span: int = 8  # positions that count as one place: 0.16 s
    loop_span: int = 4  # positions that a token must move on in each repetition to be real: 0.08 s
    loop_longest: int = 8  # tokens of what is repeated: longer ones attend backwards, and are seen
    loop_reach: int = 24  # committed tokens that a loop may have begun in: three times eight

    def noise(self, silent: float, outcome: Outcome, *, final: bool) -> bool:
        """Whether the first words of an utterance are noise put into words.

        No single figure tells: the model's own no-speech probability is above 0.6 on some speech
        and below 0.4 on bird song; the words it invents for noise are improbable or circular.

        Args:
            silent: log-probability of no-speech at the utterance's start.
            outcome: the words.
            final: no more audio will come.
        """
        draft = outcome.draft
        if not draft:
            return False
        p_silent = math.exp(silent)
        sure = sum(d.logprob for d in draft) / len(draft)
        circular = outcome.why in ("loop", "stuck", "pace")
        if final and p_silent < self.speech:  # unsure words for surely speech, and the last ones
            return False
        signs = p_silent > self.no_speech, sure < self.doubtful, circular
        return sure < self.unsure or sum(signs) > 1

    def silence(self, levels: NDArray[np.float32], last: int) -> bool:
        """Whether nothing loud follows the last word: then no word follows either."""
        return last > 0 and not (levels[last + self.tail :] > -self.faint).any()

    def early_end(self, levels: NDArray[np.float32], last: int, choice: Choice) -> bool:
        """Whether the model calls it the end while it attends to speech that no word explains."""
        n_heard = len(levels)
        if not last + self.covered < choice.position < n_heard:
            return False
        speech = levels[last + self.covered : n_heard - self.fresh] > -self.loud
        return int(speech.sum()) > self.uncovered

    def skips(self, levels: NDArray[np.float32], words: Sequence[Drafted]) -> int:
        """Positions of speech before the last word that no word attends to."""
        spoken = levels > -self.loud
        for word in words:
            spoken[max(0, word.position - self.covered) : word.position + self.covered] = False
        last = max((word.position for word in words), default=0)
        return int(spoken[:last].sum())

    def pace(self, n_tokens: int, n_heard: int) -> bool:
        """Whether so many tokens are more than anybody says in that time."""
        return n_tokens >= int(n_heard / 50 * self.tokens_per_second) + self.spare_tokens

    def stuck_since(self, walked: Sequence[Drafted], tokens: Tokens) -> int | None:
        """Where the last words began to attend to one place all of them, if they do."""
        said = [i for i, d in enumerate(walked) if not tokens.is_punctuation(d.token)]
        last = said[-self.stuck :]
        places = [walked[i].position for i in last]
        if len(places) < self.stuck or max(places) - min(places) >= self.stuck_span:
            return None
        return last[0]

    def loop(self, words: Sequence[Drafted]) -> Loop | None:
        """Whether the end is one n-gram over and over while attention stands still.

        Four times one token, else three times. People do say "no, no, no": then each one has a
        sound of its own, and is not counted.
        """
        for n in range(1, self.loop_longest + 1):
            n_alike = 0
            for now, before in zip(reversed(words), reversed(words[:-n]), strict=False):
                moved = now.position - before.position
                if now.token != before.token or moved >= self.loop_span * n:
                    break
                n_alike += 1
            if n_alike >= (3 if n == 1 else 2 * n):
                return Loop(n, n_alike)
        return None


@dataclass(frozen=True, slots=True)
class Loop:
    """The end of some words."""

    first: int  # tokens of the first time
    again: int  # tokens that repeat them


@dataclass(slots=True)
class Watch:
    """The guards over one walk along a draft.

    Attributes:
        cut: how many of the walked tokens to keep when `stops` has said why.
    """

    guards: Guards
    tokens: Tokens
    committed: Sequence[Drafted]
    n_heard: int
    final: bool
    lost: int = 0  # tokens in a row that attend backwards
    cut: int = 0

    def stops(self, walked: Sequence[Drafted], drafted: Drafted, *, back: bool) -> Why | None:
        """Why the walk must end before `drafted`, if it must.

        Args:
            walked: tokens accepted so far.
            drafted: the next.
            back: whether it is a word whose attention jumped back.
        """
        guards, mark = self.guards, self.tokens.is_punctuation(drafted.token)
        self.cut = len(walked)
        if self.final and drafted.position > self.n_heard + guards.beyond:
            return "beyond"
        self.lost = 0 if mark else self.lost + 1 if back else 0
        if self.lost == (guards.lost_final if self.final else guards.lost):
            self.cut = len(walked) - self.lost + 1
            return "back"
        if (since := guards.stuck_since(walked, self.tokens)) is not None:
            self.cut = since + 1
            return "stuck"
        if guards.pace(len(self.committed) + len(walked), self.n_heard):
            return "pace"
        words = [*self.committed[-guards.loop_reach :], *walked, drafted]
        if loop := guards.loop(words):
            self.cut = self._before(loop, [*walked, drafted])
            return "loop"
        return None

    def _before(self, loop: Loop, words: Sequence[Drafted]) -> int:
        """How many words to keep: where it begins to circle, something else may have been said.

        Even the first time goes, if anything stands before it.
        """
        cut = len(words) - loop.again - loop.first
        while cut > 0 and not self._parts(words[cut].token):
            cut -= 1
        if cut <= 0 and not self.committed:
            return min(loop.first, len(words) - 1)
        return max(0, cut)

    def _parts(self, token: int) -> bool:
        return self.tokens.starts_word(token) or self.tokens.is_punctuation(token)
