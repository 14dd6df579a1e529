"""What is usual for this speaker, so that a raised voice can be told from a high one.

All statistics fade with speech, not with time: half of their weight is from the last minute of
voiced sound. Knows nothing of who is speaking: on a change of speaker it adapts.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import MEL_HOP, SAMPLE_RATE
from textpro_stream.prosody.pitch import F0_MAX_HZ, F0_MIN_HZ

HALF_LIFE = 6_000  # frames; one minute of voiced sound
BINS_PER_SEMITONE = 10
_SEMITONES = 12 * np.log2(F0_MAX_HZ / F0_MIN_HZ)
_N_BINS = int(np.ceil(_SEMITONES * BINS_PER_SEMITONE)) + 1
KNOWN_S = 3.0  # seconds of speech before this one from which a comparison means something
LEAST_DEVIATION_DB = 1.0  # a voice of constant loudness must not make every breath an event


class Speaker:
    """Running median of pitch, running means of loudness and pace. Of constant size."""

    def __init__(self) -> None:
        self._pitches = np.zeros(_N_BINS)  # faded counts, a tenth of a semitone each
        self._weight = self._mean_db = self._variance = 0.0
        self._tokens = self._talk_s = 0.0  # faded sums

    def copy(self) -> Self:
        """As it is now: what comes later does not change the copy."""
        return deepcopy(self)

    @property
    def is_known(self) -> bool:
        """Enough voice was heard to compare with."""
        return self._weight >= KNOWN_S * SAMPLE_RATE / MEL_HOP

    def hear(self, f0_hz: NDArray[np.float32], level_db: NDArray[np.float64]) -> None:
        """Take voiced frames, in order.

        Args:
            f0_hz: (n,), none of them 0.
            level_db: (n,), loudness of the same frames.
        """
        if len(f0_hz) == 0:
            return
        n = len(f0_hz)
        fade = 0.5 ** (1 / HALF_LIFE)
        weights = fade ** np.arange(n - 1, -1, -1)
        bins = np.round(12 * np.log2(f0_hz / F0_MIN_HZ) * BINS_PER_SEMITONE).astype(int)
        self._pitches *= fade**n
        np.add.at(self._pitches, np.clip(bins, 0, _N_BINS - 1), weights)
        # Pooled mean and variance of what was known, faded, and of what is new.
        old, new = self._weight * fade**n, float(weights.sum())
        mean = float(weights @ level_db) / new
        variance = float(weights @ (level_db - mean) ** 2) / new
        self._weight = old + new
        share = new / self._weight
        apart = mean - self._mean_db
        self._variance += share * (variance - self._variance) + share * (1 - share) * apart**2
        self._mean_db += share * apart

    def hear_words(self, n_tokens: int, talk_s: float) -> None:
        """Take a turn's words, and for how long they were said."""
        fade = 0.5 ** (talk_s * SAMPLE_RATE / MEL_HOP / HALF_LIFE)
        self._tokens = fade * self._tokens + n_tokens
        self._talk_s = fade * self._talk_s + talk_s

    def pace(self, n_tokens: int, talk_s: float) -> float | None:
        """A rate of tokens against what was heard; None before enough was."""
        if self._talk_s < KNOWN_S or self._tokens == 0 or talk_s <= 0:
            return None
        return n_tokens / talk_s * self._talk_s / self._tokens

    def decibels(self, level_db: float) -> float:
        """A loudness against the mean of what was heard. 0 before anything was."""
        return level_db - self._mean_db if self._weight else 0.0

    def semitones(self, f0_hz: float) -> float:
        """A pitch against the median of what was heard. 0 before anything was."""
        total = self._pitches.sum()
        if total == 0:
            return 0.0
        median = int(np.searchsorted(np.cumsum(self._pitches), total / 2))
        return float(12 * np.log2(f0_hz / F0_MIN_HZ) - median / BINS_PER_SEMITONE)

    def deviations(self, level_db: float) -> float:
        """A loudness against the mean of what was heard, in its standard deviations."""
        if self._weight == 0:
            return 0.0
        return (level_db - self._mean_db) / max(float(np.sqrt(self._variance)), LEAST_DEVIATION_DB)
