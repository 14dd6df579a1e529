"""Audio and word marks of a voice -> pieces of at most 100 ms that know the text they end at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import SpokenChunk
from textpro_stream.speech.spoken import SpokenForm

PIECE_MS = 100  # as much is lost, or heard too long, when speech is interrupted between pieces


class Aligner:
    """One clause on its way out of the voice.

    Audio is held back until the mark behind it has come, because only then is it known how long
    its word lasts. Inside a word, characters are spread evenly over its time.

    Args:
        form: what is said, and where it was written.
        rate_hz: of the voice.
        start: samples of the reply before this clause.
        text_start: characters of the reply before this clause.
    """

    def __init__(self, form: SpokenForm, rate_hz: int, start: int, text_start: int) -> None:
        self._form, self._rate_hz = form, rate_hz
        self._start, self._text_start = start, text_start
        self._held = np.zeros(0, np.float32)
        self._given = 0  # samples of this clause; the last mark
        self._said = 0  # characters of what was written, up to there

    def audio(self, samples: NDArray[np.float32]) -> None:
        """Take audio, (n,), behind what was taken before."""
        self._held = np.concatenate([self._held, samples])

    def word(self, sample: int, position: int) -> list[SpokenChunk]:
        """A word begins: at a sample of this clause, at a character of what is said."""
        # One sample stays behind: the last chunk is the one that ends with the text.
        last = self._given + len(self._held) - 1
        return self._up_to(min(sample, last), self._form.written(position))

    def finish(self) -> list[SpokenChunk]:
        """The clause ended; give the rest."""
        return self._up_to(self._given + len(self._held), self._form.length)

    def _up_to(self, mark: int, text_mark: int) -> list[SpokenChunk]:
        """Give the audio before a mark. Voices may repeat marks, and step back in numbers."""
        before, text_before = self._given, self._said
        mark = max(mark, before)
        text_mark = max(text_mark, text_before)
        chunks = []
        while self._given < mark:
            n = min(self._rate_hz * PIECE_MS // 1000, mark - self._given)
            self._said = text_before + (text_mark - text_before) * (self._given + n - before) // (
                mark - before
            )
            chunks.append(
                SpokenChunk(
                    self._held[:n].copy(),
                    self._rate_hz,
                    self._start + self._given,
                    self._text_start + self._said,
                )
            )
            self._held = self._held[n:]
            self._given += n
        self._said = text_mark
        return chunks
