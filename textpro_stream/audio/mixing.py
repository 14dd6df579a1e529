"""Channels to one, without losing what they cancel in each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRAME_MS = 20  # of one decision; the grid is the stream's own, so cutting changes nothing
MEMORY = 0.9  # of the powers, a frame: about 0.2 s, a syllable
LOST = 0.05  # of the best channel's power (-13 dB): the mean has cancelled the voice
SOUND = 0.25  # of it (-6 dB): the mean of one live channel among two is as loud
SILENT = 1e-9  # power (-90 dBFS) below which nothing is decided


class Mixer:
    """(n, channels) pushes -> (n,) mono.

    Channels are averaged. Where the mean is far below the best of them, they cancel each other (a
    cable with crossed wires, one microphone inverted): then two give half their difference, more
    give the loudest one.

    Args:
        n_channels: of what is pushed.
        rate_hz: of it.
    """

    def __init__(self, n_channels: int, rate_hz: int) -> None:
        self.cancelled = False  # the channels have cancelled each other at some time
        self._frame = max(1, rate_hz * FRAME_MS // 1000)
        self._rest = np.zeros((0, n_channels), np.float32)
        self._mean = np.full(n_channels, 1 / n_channels, np.float32)
        self._weights = self._mean
        self._heard = False  # something to decide by
        self._power_mean, self._powers = 0.0, np.zeros(n_channels)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take (n, channels); give the frames that they complete."""
        if samples.shape[1] == 1:
            return samples[:, 0]
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) - len(samples) % self._frame
        self._rest = samples[whole:]
        return self._mix(samples[:whole])

    def finish(self) -> NDArray[np.float32]:
        """Give the rest."""
        rest, self._rest = self._rest, self._rest[:0]
        return self._mix(rest)

    def _mix(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        frames = [
            self._one(samples[at : at + self._frame]) for at in range(0, len(samples), self._frame)
        ]
        return np.concatenate(frames) if frames else np.zeros(0, np.float32)

    def _one(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        mean: NDArray[np.float32] = frame.mean(axis=1, dtype=np.float32)
        self._power_mean = MEMORY * self._power_mean + float(np.mean(mean**2))
        self._powers = MEMORY * self._powers + np.mean(frame**2, axis=0)
        before, self._weights = self._weights, self._decide()
        first, self._heard = not self._heard, self._heard or bool(frame.any())
        if before is self._weights is self._mean:
            return mean
        after: NDArray[np.float32] = np.dot(frame, self._weights)
        if before is self._weights or first:
            return after
        fade = np.linspace(0, 1, len(frame), dtype=np.float32)
        faded: NDArray[np.float32] = (1 - fade) * np.dot(frame, before) + fade * after
        return faded

    def _decide(self) -> NDArray[np.float32]:
        best = float(self._powers.max())
        if best < SILENT:
            return self._weights
        averaging = self._weights is self._mean
        if self._power_mean >= (LOST if averaging else SOUND) * best:
            return self._mean
        if not averaging:
            return self._weights
        self.cancelled = True
        if len(self._powers) == 2:
            return np.array([0.5, -0.5], np.float32)
        loudest = np.zeros(len(self._powers), np.float32)
        loudest[int(self._powers.argmax())] = 1
        return loudest
