"""How far chance in the choice of items may move a figure (Bisani & Ney, 2004, for WER)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def interval(
    figure: Callable[[NDArray[np.int_]], float],
    groups: NDArray[np.int_],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Where 95 % of a figure lies when groups are drawn anew with replacement.

    Args:
        figure: of items by their indices, (k,), some of them several times. For a comparison give
            a difference: both sides then see the same draw.
        groups: of each item its group, (n,): those of one are drawn together.
        draws: how often.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    drawn = (
        figure(np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))]))
        for _ in range(draws)
    )
    found = np.array([value for value in drawn if np.isfinite(value)])
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
