"""Incremental log-mel: samples in, un-normalised log10 mel frames out.

A frame depends on its own 400 samples only, so the values do not depend on how the audio is cut.
What Whisper derives from a whole clip (the maximum that floors quiet bins) is a running maximum
here, applied by `normalise` when frames are used. Knows nothing of words or blocks.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textpro_stream.contracts import MEL_HOP, SAMPLE_RATE

N_FFT = 400  # samples; 25 ms
LOG_FLOOR = 1e-10  # of the power, before the logarithm
DYNAMIC_RANGE = 8.0  # log10 units kept below the maximum


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
        audio = torch.from_numpy(held[: (n - 1) * MEL_HOP + N_FFT]).to(self._filters.device)
        frames = audio.unfold(0, N_FFT, MEL_HOP) * self._window  # (n, 400)
        power: Tensor = torch.fft.rfft(frames).abs().square()  # (n, 201)
        return (power @ self._filters.T).clamp_min(LOG_FLOOR).log10()


def normalise(frames: Tensor, maximum: float) -> Tensor:
    """Whisper's scaling of log10 mel against the loudest bin so far.

    Only the floor depends on `maximum`, so a wrong one touches quiet bins alone.
    """
    return (frames.clamp_min(maximum - DYNAMIC_RANGE) + 4.0) / 4.0
