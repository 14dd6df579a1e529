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
    loop_span: int = 4  # positions a repeated token must take to be real: 0.08 s
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
        return sure < self.unsure or (
            p_silent > self.no_speech and (sure < self.doubtful or circular)
        )

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

    def pace(self, n_tokens: int, n_heard: int) -> bool:
        """Whether so many tokens are more than anybody says in that time."""
        return n_tokens >= int(n_heard / 50 * self.tokens_per_second) + self.spare_tokens

    def is_stuck(self, walked: Sequence[Drafted], tokens: Tokens) -> bool:
        """Whether the last words all attend to one place."""
        said = [d for d in walked[-2 * self.stuck :] if not tokens.is_punctuation(d.token)]
        places = [d.position for d in said[-self.stuck :]]
        return len(places) == self.stuck and max(places) - min(places) < self.stuck_span

    def repeated(self, words: Sequence[Drafted]) -> int:
        """How many of the last tokens say an n-gram again while attention stands still.

        Four times one token, else three times. People do say "no, no, no": then attention moves on.
        """
        for n in (1, 2, 3, 4, 6, 8):
            size = n * (4 if n == 1 else 3)
            tail = words[-size:]
            if len(tail) == size and all(
                tail[i].token == tail[i % n].token for i in range(n, size)
            ):
                moved = max(d.position for d in tail) - min(d.position for d in tail)
                if moved < self.loop_span * size:
                    return size - n
        return 0


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
        if guards.is_stuck(walked, self.tokens):
            self.cut = len(walked) - guards.stuck + 1
            return "stuck"
        if guards.pace(len(self.committed) + len(walked), self.n_heard):
            return "pace"
        words = [*self.committed[-guards.loop_reach :], *walked, drafted]
        if again := guards.repeated(words):
            self.cut = max(0, len(walked) + 1 - again)
            return "loop"
        return None
