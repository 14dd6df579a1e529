"""What of a spoken reply has been heard: by a player's reports, else by the clock.

Pure bookkeeping: samples that went out, and samples that came out of the loudspeaker.
"""

from __future__ import annotations

from textpro_stream.contracts import SpokenChunk
from textpro_stream.speech.playout import SpokenText

TAIL_S = 0.1  # a player's resampler holds back some ms until it is told that no more comes
GRACE_S = 2.0  # a player this late has lost the end of the reply; do not wait for it


class Playback:
    """One reply's audio on its way to somebody's ear."""

    def __init__(self) -> None:
        self._spoken = SpokenText()
        self._began = 0.0  # when the first chunk went out
        self._reported: int | None = None

    def add(self, chunk: SpokenChunk, moment: float) -> None:
        """A chunk went out."""
        if not self._spoken.samples:
            self._began = moment
        self._spoken.add(chunk)

    def report(self, samples: int) -> None:
        """A player says how many samples of this reply have left the loudspeaker."""
        self._reported = max(samples, self._reported or 0)

    @property
    def ends_at(self) -> float:
        """The moment by which all of it has been heard, at the latest."""
        if not self._spoken.samples:
            return self._began
        grace = 0.0 if self._reported is None else GRACE_S
        return self._began + self._duration_s + grace

    def ahead_s(self, moment: float) -> float:
        """Seconds of audio that went out and cannot have been heard yet."""
        if not self._spoken.samples:
            return 0.0
        return self._began + self._duration_s - moment

    def is_over(self, moment: float) -> bool:
        """All audio that went out has been heard."""
        if not self._spoken.samples or moment >= self.ends_at:
            return True
        tail = round(TAIL_S * self._spoken.rate_hz)
        return self._reported is not None and self._reported >= self._spoken.samples - tail

    def heard_samples(self, moment: float) -> int:
        """Samples heard by now."""
        heard = self._reported
        if heard is None:
            heard = round((moment - self._began) * self._spoken.rate_hz)
        return max(0, min(heard, self._spoken.samples))

    def heard_characters(self, moment: float) -> int:
        """Characters of the reply's text that were heard by now."""
        return self._spoken.characters_at(self.heard_samples(moment))

    @property
    def _duration_s(self) -> float:
        return self._spoken.samples / self._spoken.rate_hz
