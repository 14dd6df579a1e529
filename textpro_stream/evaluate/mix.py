"""Clean speech with a reference of where it is, and the same under noise of a known level.

The reference is the energy of the clean clip: it knows no words. A breath or a chair counts as
speech, a faint first consonant does not, and a clip with a loud background of its own has none
worth using. It is the same for every detector, so comparisons stand better than absolute figures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textpro_stream.audio.files import FileSource
from textpro_stream.contracts import MEL_HOP

HOP = MEL_HOP  # samples; the reference has one flag per 10 ms
_WINDOW = 400  # samples; 25 ms, as long as a mel column's
_BELOW_LOUD_DB = 25.0  # between loud vowels and most consonants; background is often 30 dB below
_ABOVE_FLOOR_DB = 10.0
_LOUD_IN_NOISE_DB = 12.0  # never nearer to the loud parts than this
_CLOSURE = 6  # hops; the silence inside a consonant
_ISLAND = 10  # hops; shorter sounds are clicks: the shortest word is longer
_GAP = 15  # hops; shorter pauses are within words


def read_audio(path: Path) -> NDArray[np.float32]:
    """A whole clip, mono at 16 kHz, shape (n,)."""
    return np.concatenate([chunk.samples for chunk in FileSource(path).chunks()])


def levels_dbfs(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """RMS of 25 ms around each 10 ms hop, shape (n // 160,); -120 dBFS at least."""
    n = len(samples) // HOP
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    middle = np.arange(n) * HOP + HOP // 2
    first = np.maximum(middle - _WINDOW // 2, 0)
    last = np.minimum(middle + _WINDOW // 2, len(samples))
    mean = np.maximum((power[last] - power[first]) / (last - first), 1e-12)
    return np.asarray(10 * np.log10(mean), np.float32)


def speech_mask(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a clean clip speaks: one flag per 10 ms, shape (n // 160,)."""
    level = levels_dbfs(samples)
    floor, loud = np.percentile(level, 5), np.percentile(level, 95)
    threshold = max(loud - _BELOW_LOUD_DB, floor + _ABOVE_FLOOR_DB)
    mask = level > min(threshold, loud - _LOUD_IN_NOISE_DB)
    mask = _without_short_runs(mask, of=False, shortest=_CLOSURE)
    mask = _without_short_runs(mask, of=True, shortest=_ISLAND)
    return _without_short_runs(mask, of=False, shortest=_GAP)


def runs(mask: NDArray[np.bool_], of: bool = True) -> NDArray[np.intp]:
    """First and behind-last index of each stretch of one value, shape (n_runs, 2)."""
    edges = np.diff(np.concatenate([[False], mask == of, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)], axis=1)


def surround(
    samples: NDArray[np.float32], before: int, after: int, seed: int = 0
) -> NDArray[np.float32]:
    """A clip between stretches of its own background level (white), in samples."""
    level = 10 ** (float(np.percentile(levels_dbfs(samples), 5)) / 20)
    rng = np.random.default_rng(seed)
    quiet = rng.normal(0.0, level, before + after).astype(np.float32)
    return np.concatenate([quiet[:before], samples, quiet[before:]])


def mix(
    samples: NDArray[np.float32],
    mask: NDArray[np.bool_],
    noise: NDArray[np.float32],
    snr_db: float,
) -> NDArray[np.float32]:
    """A clip with a looped noise `snr_db` below its speech; scaled down if it would clip.

    Both levels are RMS: of the clip where `mask` says speech, of the noise over its whole length.
    """
    speaking = np.repeat(mask, HOP)
    speech_power = float(np.mean(np.square(samples[: len(speaking)][speaking])))
    noise_power = float(np.mean(np.square(noise)))
    gain = np.sqrt(speech_power / max(noise_power, 1e-12) / 10 ** (snr_db / 10))
    mixed = samples + gain * np.resize(noise, len(samples))
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max())), np.float32)


def _without_short_runs(mask: NDArray[np.bool_], *, of: bool, shortest: int) -> NDArray[np.bool_]:
    mask = mask.copy()
    for first, last in runs(mask, of):
        if last - first < shortest and (of or (first > 0 and last < len(mask))):
            mask[first:last] = not of
    return mask
