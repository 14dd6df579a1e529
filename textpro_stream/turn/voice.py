"""From probabilities to voice: a detector on its own grid, with hysteresis.

Conversations move in frames of 20 ms and detectors in windows of their own length; this is the
only place where the two grids meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from textpro_stream.contracts import AudioChunk
from textpro_stream.ports import Vad

# Voice that has begun holds on until the probability falls this far below the threshold, so a
# weak consonant does not break a word.
HYSTERESIS = 0.15


@dataclass(frozen=True, slots=True)
class VoiceWindow:
    """One decision of the detector."""

    start: int  # samples
    end: int  # samples, exclusive
    probability: float
    voiced: bool


class VoiceTrack:
    """One conversation's voice. Holds less than one window of audio."""

    def __init__(self, vad: Vad, threshold: float) -> None:
        self._vad = vad
        self.threshold = threshold  # probability that counts as voice; may be changed
        self._pending = np.empty(0, np.float32)
        self._heard: int | None = None  # samples received; None before the first chunk
        self.end = 0  # samples; everything before it is decided
        self.probability = 0.0
        self.voiced = False

    def push(self, chunk: AudioChunk) -> list[VoiceWindow]:
        """Take the next audio of any length; give the windows that it completed."""
        if self._heard is None:
            self.end = chunk.start
        else:
            assert chunk.start == self._heard, "audio must follow on without a gap"
        self._heard = chunk.end
        pending = np.concatenate([self._pending, chunk.samples])
        windows: list[VoiceWindow] = []
        n = self._vad.frame
        while len(pending) >= n:
            windows.append(self._decide(self._vad.probability(pending[:n])))
            pending = pending[n:]
        self._pending = pending
        return windows

    def _decide(self, probability: float) -> VoiceWindow:
        start, self.end = self.end, self.end + self._vad.frame
        self.probability = probability
        level = self.threshold - HYSTERESIS if self.voiced else self.threshold
        self.voiced = probability >= level
        return VoiceWindow(start, self.end, probability, self.voiced)
