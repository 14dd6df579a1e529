"""Incremental log-mel: samples in, un-normalised log10 mel frames out.

A frame depends on its own 400 samples only, so the values do not depend on how the audio is cut.
What Whisper derives from a whole clip (the maximum that floors quiet bins) is a running maximum
here, applied when frames are used. Knows nothing of words or blocks.
"""

from __future__ import annotations

from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textpro_stream.contracts import MEL_HOP, SAMPLE_RATE
from textpro_stream.whisper.host import Pending, to_device

N_FFT = 400  # samples; 25 ms
LOG_FLOOR = 1e-10  # of the power, before the logarithm
DYNAMIC_RANGE = 8.0  # log10 units kept below the maximum
LEAST_MAXIMUM = 0.0  # log10: silence at a stream's start is not scaled up to be loud


def _hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's scale: linear to 1 kHz, logarithmic above."""
    linear = 3.0 * hz / 200.0
    logarithmic = 15.0 + 27.0 * np.log(np.maximum(hz, 1e-9) / 1000.0) / np.log(6.4)
    return np.where(hz < 1000.0, linear, logarithmic)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    linear = 200.0 * mel / 3.0
    logarithmic = 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0))
    return np.where(mel < 15.0, linear, logarithmic)


def mel_filters(n_mels: int) -> Tensor:
    """Triangular filters of equal area on Slaney's scale, shape (n_mels, 201).

    The formula behind the table that Whisper ships (Slaney, Auditory Toolbox, 1998).
    """
    bins = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(np.array(SAMPLE_RATE / 2)).item(), n_mels + 2))
    width = np.diff(edges)
    ramps = edges[:, None] - bins[None, :]
    rising = -ramps[:-2] / width[:-1, None]
    falling = ramps[2:] / width[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    triangles *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(triangles.astype(np.float32))


class MelStream:
    """One stream's log-mel. Frame i covers samples [160 i - 200, 160 i + 200).

    The start is mirrored as in Whisper; the end is whatever `push` brings, so a caller that wants
    silence after the stream pushes zeros.
    """

    def __init__(self, filters: Tensor) -> None:
        self._filters = filters
        self._window = torch.hann_window(N_FFT, device=filters.device)
        self._held = np.zeros(0, np.float32)  # samples that later frames still need
        self._begun = False

    def fork(self) -> MelStream:
        """A copy that can be pushed without disturbing this one."""
        twin = MelStream.__new__(MelStream)
        twin._filters, twin._window = self._filters, self._window
        twin._held, twin._begun = self._held, self._begun  # never written in place
        return twin

    def push(self, samples: NDArray[np.float32]) -> Tensor:
        """Frames completed by these samples, shape (n, n_mels), log10 power."""
        held = np.concatenate([self._held, samples])
        if not self._begun:
            if len(held) <= N_FFT // 2:  # mirroring needs 200 samples after the first
                self._held = held
                return self._filters.new_zeros(0, len(self._filters))
            held = np.concatenate([held[N_FFT // 2 : 0 : -1], held])
            self._begun = True
        n = max(0, (len(held) - N_FFT) // MEL_HOP + 1)
        self._held = held[n * MEL_HOP :]
        if n == 0:
            return self._filters.new_zeros(0, len(self._filters))
        audio = to_device(held[: (n - 1) * MEL_HOP + N_FFT], self._filters.device)
        frames = audio.unfold(0, N_FFT, MEL_HOP) * self._window  # (n, 400)
        power: Tensor = torch.fft.rfft(frames).abs().square()  # (n, 201)
        return (power @ self._filters.T).clamp_min(LOG_FLOOR).log10()


def normalise(frames: Tensor, maximum: float | Tensor) -> Tensor:
    """Whisper's scaling of log10 mel against the loudest bin so far.

    Only the floor depends on `maximum`, so a wrong one touches quiet bins alone.
    """
    return (frames.clamp_min(maximum - DYNAMIC_RANGE) + 4.0) / 4.0


class Spectrum:
    """A segment's log-mel, and how loud it is against the loudest bin of the stream so far.

    Frames and maximum stay on the device, where the encoder reads them; loudness goes to the host
    behind them, where rules read it a decoder pass later. Neither waits for the other.
    """

    def __init__(self, filters: Tensor) -> None:
        self._mel = MelStream(filters)
        self._frames = filters.new_zeros(0, len(filters))
        self._maximum = filters.new_full((), LEAST_MAXIMUM)
        self._coming: list[Pending] = []  # loudness of the last frames
        self._known = np.zeros(0, np.float32)  # of those before them
        self._loudest = np.float32(LEAST_MAXIMUM)  # the maximum, once more
        self._n_heard = 0  # positions that it covers

    def fork(self) -> Spectrum:
        """A copy that can be pushed and looked at without disturbing this one."""
        twin = copy(self)
        twin._mel, twin._coming = self._mel.fork(), list(self._coming)
        return twin  # the rest is never written in place

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take audio."""
        frames = self._mel.push(samples)
        if len(frames):
            self._frames = torch.cat([self._frames, frames])
            self._coming.append(Pending(frames.amax(1)))

    def drop(self, n_positions: int) -> None:
        """Forget the frames of the first positions."""
        self._frames = self._frames[2 * n_positions :]
        self._known = self._loudness()[2 * n_positions :]
        self._n_heard = max(0, self._n_heard - n_positions)

    def look(self, n_positions: int, n_heard: int) -> Tensor:
        """Normalised frames for the encoder, two more than those of `n_positions` if there are.

        Raises the maximum to the loudest bin of the `n_heard` positions that are no added silence.
        """
        self._n_heard = n_heard
        self._maximum = torch.maximum(self._maximum, self._frames[: 2 * n_heard].max())
        return normalise(self._frames[: 2 * n_positions + 2], self._maximum)

    def levels(self) -> NDArray[np.float32]:
        """Loudest bin of each position looked at, against the maximum; (n_heard,) log10, <= 0."""
        loudness = self._loudness()[: 2 * self._n_heard]
        levels: NDArray[np.float32] = loudness.reshape(-1, 2).max(1) - self._loudest
        return levels

    def n_loud(self, first: int, below: float) -> int:
        """Frames from a position on that are less than `below` (log10) under the maximum."""
        loudness = self._loudness()[2 * first :]
        return int((loudness > float(self._loudest) - below).sum())

    def _loudness(self) -> NDArray[np.float32]:
        if self._coming:
            self._known = np.concatenate([self._known, *(part.numpy() for part in self._coming)])
            self._coming = []
        loudest = self._known[: 2 * self._n_heard].max(initial=self._loudest)
        self._loudest = np.float32(loudest)
        return self._known
