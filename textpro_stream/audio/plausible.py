"""Whether raw bytes are what they were declared to be: speech is smooth, misread speech is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

LEAST = 4_000  # bytes: less is not judged
SMOOTH = 0.35  # of `_roughness`: speech at 8 kHz and above
NOISY = 0.7  # of it: no relation from sample to sample
APART = 8.0  # times: even and odd samples of one channel have steps and powers alike
UNLIKE = 3.5  # times: from one channel to the other is rougher than inside each
LOUD_HALF = 28_000  # of PCM16, by the median: 8-bit audio rests at 128, which reads as this
FLOATS = (1e-4, 4.0)  # what the largest of some floats lies between


def looks_like(data: bytes) -> str | None:
    """What bytes hold that were declared as PCM16, mono, little-endian, if it is something else."""
    data = data[: len(data) // 24 * 24]  # whole samples of every width, one or two channels
    declared = np.frombuffer(data, "<i2").astype(np.float64)
    if len(data) < LEAST or not declared.any():
        return None
    if np.median(np.abs(declared)) > LOUD_HALF:
        return "8-bit audio"
    if _roughness(declared) > NOISY / 2:
        floats = np.abs(np.frombuffer(data, "<f4"))
        if np.isfinite(floats).all() and FLOATS[0] < floats.max() < FLOATS[1]:
            return "32-bit floats"
    even, odd = declared[0::2], declared[1::2]
    if _roughness(even) > NOISY and _roughness(odd) < SMOOTH:
        return "32-bit integers"  # a noisy lower and a smooth upper half
    if min(_roughness(even), _roughness(odd)) < SMOOTH and _alternate(even, odd):
        return "two channels"
    if _roughness(declared) > NOISY:
        if _roughness(np.frombuffer(data, ">i2").astype(np.float64)) < SMOOTH:
            return "16-bit big-endian audio"
        if _roughness(_of_24_bits(data)) < SMOOTH:
            return "24-bit audio"
    return None


def _roughness(samples: Samples) -> float:
    """Power of the steps by twice the power: 1 for noise, near 0 for a low tone."""
    samples = samples - samples.mean()
    power = float(np.mean(samples**2))
    return float(np.mean(np.diff(samples) ** 2)) / (2 * power) if power > 0 else 1.0


def _alternate(even: Samples, odd: Samples) -> bool:
    """Samples of two channels take turns."""
    inside = float(np.mean((odd - even) ** 2)) + 1
    across = float(np.mean((even[1:] - odd[:-1]) ** 2)) + 1
    powers = float(np.mean(even**2)) + 1, float(np.mean(odd**2)) + 1
    # Two unlike channels: from one to the other is much rougher than from one to its own next.
    own = float(np.mean(np.diff(even) ** 2) + np.mean(np.diff(odd) ** 2)) / 2 + 1
    ratios = across / inside, powers[0] / powers[1], powers[1] / powers[0]
    return max(ratios) > APART or inside > UNLIKE * own


def _of_24_bits(data: bytes) -> Samples:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    samples: Samples = wide.view("<i4")[:, 0].astype(np.float64)
    return samples
