"""Pitch and power of the last half minute, one value each 10 ms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import MEL_HOP, SAMPLE_RATE
from textpro_stream.prosody.pitch import WINDOW, pitch

KEPT_S = 40  # words come up to some 25 s late, and a window of theirs begins seconds earlier
BATCH = 10  # frames looked at together: five times cheaper than one by one; more leave the cache

_MARGIN = (WINDOW - MEL_HOP) // 2  # samples that a frame's pitch needs on both sides of it


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """A run of 10 ms frames."""

    f0_hz: NDArray[np.float32]  # (n,), 0 where unvoiced
    power: NDArray[np.float32]  # (n,), mean square; 1 is full scale


class Acoustics:
    """One stream's pitch and power, of which the oldest is forgotten.

    Frames are looked at in batches, each for itself: cutting the audio differently changes no bit.
    """

    def __init__(self) -> None:
        self._n_kept = KEPT_S * SAMPLE_RATE // MEL_HOP
        self._f0 = np.zeros(self._n_kept, np.float32)  # a ring: frame k is at k % n_kept
        self._power = np.zeros(self._n_kept, np.float32)
        self._n_frames = 0  # since the stream began
        self._held: list[NDArray[np.float32]] = [np.zeros(_MARGIN, np.float32)]
        self._n_held = _MARGIN

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take (n,) samples behind what was taken before."""
        self._held.append(samples)
        self._n_held += len(samples)
        if self._n_held >= WINDOW + (BATCH - 1) * MEL_HOP:
            self._look()

    def end(self) -> int:
        """The sample up to which all frames are known: some 20 ms behind the audio."""
        self._look()
        return self._n_frames * MEL_HOP

    def between(self, start: int, end: int) -> Frames:
        """The known and kept frames whose middle lies in a stretch of samples."""
        self._look()
        first = max(-(-(start - MEL_HOP // 2) // MEL_HOP), self._n_frames - self._n_kept, 0)
        last = min(-(-(end - MEL_HOP // 2) // MEL_HOP), self._n_frames)
        at = np.arange(first, max(first, last)) % self._n_kept
        return Frames(self._f0[at], self._power[at])

    def _look(self) -> None:
        """Work out all frames that are complete."""
        n_frames = (self._n_held - WINDOW) // MEL_HOP + 1
        if n_frames < 1:
            return
        held = np.concatenate(self._held)
        for first in range(0, n_frames, BATCH):  # a long chunk is no reason for a large array
            n = min(BATCH, n_frames - first)
            part = held[first * MEL_HOP : (first + n - 1) * MEL_HOP + WINDOW]
            at = np.arange(self._n_frames, self._n_frames + n) % self._n_kept
            self._f0[at] = pitch(np.lib.stride_tricks.sliding_window_view(part, WINDOW)[::MEL_HOP])
            middle = part[_MARGIN : _MARGIN + n * MEL_HOP].reshape(n, MEL_HOP)
            self._power[at] = np.mean(middle**2, axis=1)
            self._n_frames += n
        self._held = [held[n_frames * MEL_HOP :].copy()]
        self._n_held -= n_frames * MEL_HOP


def dbfs(power: float) -> float:
    """Mean square as decibels below full scale; silence is -120."""
    return float(10 * np.log10(max(power, 1e-12)))
