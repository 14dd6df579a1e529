"""How loud a recording is, and by how much a very quiet one may be raised."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

STRETCH_MS = 100  # one loudness: a syllable
QUIET_DBFS = -40.0  # at its loudest: below it the voice detector begins to miss words
TARGET_DBFS = -26.0  # the loudest stretch of what was raised: a voice at arm's length
FLOOR_DBFS = -45.0  # raised noise stays below this
FLOOR_SHARE = 0.2  # of a recording is quieter than its floor
LEAST_RANGE_DB = 10.0  # from floor to the loudest: less is noise alone, and stays as it is
DEEPEST_DBFS = -120.0  # no sound at all
SILENCE_DBFS = -75.0  # at its loudest: nothing but the noise of a converter


class LevelMeter:
    """Loudness of every `STRETCH_MS`, RMS in dB below full scale.

    Args:
        rate_hz: of what is pushed.
    """

    def __init__(self, rate_hz: int) -> None:
        self.loudest_dbfs = -math.inf  # of what was heard so far
        self._counts = np.zeros(round(-DEEPEST_DBFS) + 1, np.int64)  # of stretches, by whole dB
        self._stretch = max(1, rate_hz * STRETCH_MS // 1000)
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: NDArray[np.float32]) -> None:
        """Take (n,) samples."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) - len(samples) % self._stretch
        self._rest = samples[whole:]
        powers = np.mean(samples[:whole].reshape(-1, self._stretch) ** 2, axis=1)
        if len(powers):
            levels = np.clip(10 * np.log10(powers + 1e-12), DEEPEST_DBFS, 0)
            self.loudest_dbfs = max(self.loudest_dbfs, float(levels.max()))
            np.add.at(self._counts, np.rint(levels - DEEPEST_DBFS).astype(int), 1)

    def gain_db(self) -> float:
        """What brings a very quiet voice up to where it is heard; 0 for all others."""
        loudest = self.loudest_dbfs
        if not SILENCE_DBFS < loudest < QUIET_DBFS:
            return 0.0
        passed = np.cumsum(self._counts) > FLOOR_SHARE * self._counts.sum()
        floor = DEEPEST_DBFS + int(passed.argmax())
        if loudest - floor < LEAST_RANGE_DB:
            return 0.0
        return max(0.0, min(TARGET_DBFS - loudest, FLOOR_DBFS - floor))
