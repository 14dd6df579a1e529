"""Pitch of short frames: YIN, vectorised, without state.

A. de Cheveigné and H. Kawahara, "YIN, a fundamental frequency estimator for speech and music",
JASA 111 (2002): steps 1 to 5. Each frame is judged by itself, so a value depends on nothing but the
50 ms around it; docs/notes/0002-pitch.md has the comparison with Praat.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import SAMPLE_RATE

F0_MIN_HZ, F0_MAX_HZ = 60, 400  # lower ones need longer frames, and jump octaves more often
WINDOW = 800  # samples; 50 ms: three periods of the lowest pitch
LAG_MIN = SAMPLE_RATE // F0_MAX_HZ
LAG_MAX = -(-SAMPLE_RATE // F0_MIN_HZ)
SUMMED = WINDOW - LAG_MAX - 1  # samples compared with their like one period later
DIP = 0.15  # aperiodicity below which the first period found is taken
VOICED = 0.35  # aperiodicity above which there is no pitch; 0.25 lost a quarter of Praat's
QUIET = 1e-6  # mean power, -60 dBFS, below which nothing is looked for


def pitch(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fundamental frequency in Hz of each frame, 0 where there is none.

    Args:
        frames: (n, WINDOW) samples.

    Returns:
        (n,) float32, each 0 or within F0_MIN_HZ to F0_MAX_HZ.
    """
    f0 = np.zeros(len(frames), np.float32)
    frames = frames - frames.mean(axis=1, keepdims=True)
    audible = np.flatnonzero(np.mean(frames**2, axis=1) > QUIET)
    if len(audible) == 0:
        return f0
    aperiodicity = _aperiodicity(frames[audible])  # (n, lags)
    lag, depth = _first_dip(aperiodicity)
    hz = SAMPLE_RATE / lag
    f0[audible] = np.where((depth < VOICED) & (hz >= F0_MIN_HZ) & (hz <= F0_MAX_HZ), hz, 0.0)
    return f0


def _aperiodicity(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """YIN's cumulative mean normalised difference for lags 0 to LAG_MAX + 1: 0 is periodic."""
    # Products by FFT: the first SUMMED samples against all, no lag wraps around.
    spectrum = np.fft.rfft(frames)
    head = np.fft.rfft(np.where(np.arange(WINDOW) < SUMMED, frames, 0))
    products = np.fft.irfft(head.conj() * spectrum, WINDOW)[:, : LAG_MAX + 2]
    powers = np.cumsum(np.pad(frames.astype(np.float64) ** 2, ((0, 0), (1, 0))), axis=1)
    power = powers[:, SUMMED : SUMMED + LAG_MAX + 2] - powers[:, : LAG_MAX + 2]
    difference = np.maximum(power[:, :1] + power - 2 * products, 0)
    difference[:, 0] = 0
    lags = np.arange(LAG_MAX + 2)
    mean = np.cumsum(difference, axis=1) / np.maximum(lags, 1)
    normalised = difference / np.maximum(mean, 1e-20)
    normalised[:, 0] = 1
    return normalised


def _first_dip(
    aperiodicity: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The first deep minimum, else the deepest; its lag between samples, and its depth."""
    rows = np.arange(len(aperiodicity))
    searched = aperiodicity[:, LAG_MIN : LAG_MAX + 1]
    before = aperiodicity[:, LAG_MIN - 1 : LAG_MAX]
    after = aperiodicity[:, LAG_MIN + 1 : LAG_MAX + 2]
    minima = (searched <= before) & (searched < after)
    deep = minima & (searched < DIP)
    deepest = np.where(minima, searched, np.inf).argmin(axis=1)
    at = np.where(deep.any(axis=1), deep.argmax(axis=1), deepest)
    left, middle, right = before[rows, at], searched[rows, at], after[rows, at]
    # A parabola through three points has its bottom between samples.
    bend = left + right - 2 * middle
    shift = np.where(bend > 0, (left - right) / (2 * np.where(bend > 0, bend, 1)), 0)
    return LAG_MIN + at + np.clip(shift, -0.5, 0.5), middle
