"""What of a spoken reply has been heard: by a player's reports, else by the clock.

Pure bookkeeping: samples that went out, samples that came out of the loudspeaker, and the
characters of the reply's text that they stand for. A model should remember what was said aloud,
not what it had in mind.
"""

from __future__ import annotations

import bisect

from textpro_stream.contracts import SpokenChunk

TAIL_S = 0.1  # a player's resampler holds back some ms until it is told that no more comes
GRACE_S = 2.0  # a player this late has lost the end of the reply; do not wait for it


class Playback:
    """One reply's audio on its way to somebody's ear."""

    def __init__(self) -> None:
        self._ends: list[int] = []  # samples at the voice's rate, of each chunk
        self._text_ends: list[int] = []  # characters, of each chunk
        self._rate_hz = 1
        self._began = 0.0  # when the first chunk went out
        self._reported: int | None = None

    def add(self, chunk: SpokenChunk, moment: float) -> None:
        """A chunk went out."""
        if not self._ends:
            self._began, self._rate_hz = moment, chunk.rate_hz
        self._ends.append(chunk.start + len(chunk.samples))
        self._text_ends.append(chunk.text_end)

    def report(self, samples: int) -> None:
        """A player says how many samples of this reply have left the loudspeaker."""
        self._reported = max(samples, self._reported or 0)

    @property
    def spoken(self) -> bool:
        """There is any audio at all."""
        return bool(self._ends)

    @property
    def ends_at(self) -> float:
        """The moment by which all of it has been heard, at the latest."""
        if not self._ends:
            return self._began
        grace = 0.0 if self._reported is None else GRACE_S
        return self._began + self._ends[-1] / self._rate_hz + grace

    def ahead_s(self, moment: float) -> float:
        """Seconds of audio that went out and cannot have been heard yet."""
        if not self._ends:
            return 0.0
        return self._began + self._ends[-1] / self._rate_hz - moment

    def is_over(self, moment: float) -> bool:
        """All audio that went out has been heard."""
        if not self._ends or moment >= self.ends_at:
            return True
        tail = round(TAIL_S * self._rate_hz)
        return self._reported is not None and self._reported >= self._ends[-1] - tail

    def heard_samples(self, moment: float) -> int:
        """Samples heard by now."""
        if not self._ends:
            return 0
        heard = self._reported
        if heard is None:
            heard = round((moment - self._began) * self._rate_hz)
        return max(0, min(heard, self._ends[-1]))

    def heard_characters(self, moment: float) -> int:
        """Characters of the reply's text that were heard by now."""
        heard = self.heard_samples(moment)
        index = bisect.bisect_right(self._ends, heard)
        if index == len(self._ends):
            return self._text_ends[-1] if self._text_ends else 0
        start, text_start = 0, 0
        if index:
            start, text_start = self._ends[index - 1], self._text_ends[index - 1]
        share = (heard - start) / (self._ends[index] - start)
        return text_start + int(share * (self._text_ends[index] - text_start))


def to_word(text: str, n_characters: int) -> str:
    """The beginning of a text up to a position, less a word that the position cuts."""
    if n_characters >= len(text):
        return text
    cut = text[:n_characters]
    following = text[n_characters]
    if not (following.isalnum() or following in "'\N{RIGHT SINGLE QUOTATION MARK}"):
        return cut
    return cut[: max((i for i, c in enumerate(cut) if c.isspace()), default=0)].rstrip()
