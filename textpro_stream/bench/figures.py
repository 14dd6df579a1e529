"""Percentiles and how sure they are. Pure: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50, 90, 95, 99)
ENOUGH_FOR_P99 = 100  # turns; below, a p99 would only be the maximum under another name
RESAMPLES = 10_000  # of the bootstrap
CONFIDENCE = 0.95
FEWEST = 8  # values on either side, below which an interval of medians means nothing

Summary = dict[str, float | int | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two medians against each other, with a 95 % bootstrap interval where there is enough."""

    value: float | None  # None: no values, or a ratio to something that is not above zero
    low: float | None
    high: float | None
    n_above: int
    n_below: int

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def summarise(values: Sequence[float]) -> Summary:
    """`n`, p50, p90, p95, p99 and max; never a mean, and no p99 of fewer than 100 values."""
    summary: Summary = {"n": len(values)}
    for percentile in PERCENTILES:
        enough = len(values) >= (ENOUGH_FOR_P99 if percentile == 99 else 1)
        summary[f"p{percentile}"] = quantile(values, percentile) if enough else None
    summary["max"] = round(max(values), 5) if values else None
    return summary


def quantile(values: Sequence[float], percentile: float) -> float:
    """By linear interpolation between neighbours."""
    return round(float(np.percentile(np.asarray(values, float), percentile)), 5)


def ratio_of_medians(above: Sequence[float], below: Sequence[float]) -> Comparison:
    """Median of `above` over median of `below`; only where both are above zero."""
    positive = all(values and np.median(values) > 0 for values in (above, below))
    return _compare(above, below, lambda a, b: a / np.maximum(b, 1e-9), known=positive)


def difference_of_medians(above: Sequence[float], below: Sequence[float]) -> Comparison:
    """Median of `above` less median of `below`."""
    return _compare(above, below, lambda a, b: a - b, known=bool(above and below))


def _compare(
    above: Sequence[float],
    below: Sequence[float],
    against: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
    *,
    known: bool,
) -> Comparison:
    """Both sides resampled on their own, with a fixed seed: a result is always the same."""
    if not known:
        return Comparison(None, None, None, len(above), len(below))
    middle = against(np.array([np.median(above)]), np.array([np.median(below)]))
    value = round(float(middle[0]), 5)
    if min(len(above), len(below)) < FEWEST:
        return Comparison(value, None, None, len(above), len(below))
    rng = np.random.default_rng(0)
    drawn = against(_medians(above, rng), _medians(below, rng))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Comparison(value, round(float(low), 5), round(float(high), 5), len(above), len(below))


def _medians(values: Sequence[float], rng: np.random.Generator) -> NDArray[np.float64]:
    drawn = rng.choice(np.asarray(values, float), (RESAMPLES, len(values)))
    return np.asarray(np.median(drawn, axis=1), np.float64)
