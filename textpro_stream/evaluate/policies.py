"""What deciding that a turn is over costs: turns cut off against time waited, as eot-bench counts.

A judge gives P(end) at each moment of a silence. A policy ends the turn at the first moment, no
earlier than its delay, at which that reaches its threshold, and at its timeout whatever is said.
Sweeping all three gives a curve (livekit/eot-bench's way). Silence alone is a judge that is always
sure. Pure: arrays in, figures out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEP_S = 0.1
MOMENTS_S: Floats = np.round(np.arange(0.2, 3.55, STEP_S), 1)  # (m,) into the silence
_THRESHOLDS = np.arange(0.0, 1.005, 0.01)
_DELAYS_S = MOMENTS_S[:9]  # 0.2 to 1.0 s
_TIMEOUTS_S = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5)


@dataclass(frozen=True, slots=True, eq=False)
class Silences:
    """Pauses as a policy meets them, all (n,)."""

    length_s: Floats  # until the speaker goes on; infinite at ends
    ends: NDArray[np.bool_]
    turns: NDArray[np.int_]  # number of the turn: drawn together

    def of(self, chosen: NDArray[np.bool_] | NDArray[np.int_]) -> Silences:
        """Some of them, by a mask or by their indices."""
        return Silences(self.length_s[chosen], self.ends[chosen], self.turns[chosen])


@dataclass(frozen=True, slots=True)
class Cost:
    """What a policy does."""

    cut: float  # share of holds that are cut off
    wait_s: float  # mean silence at ends before it decides


def cost(waits_s: Floats, silences: Silences) -> Cost:
    """Of decisions after `waits_s`, shape (n,)."""
    holds = ~silences.ends
    return Cost(_mean(silences.length_s[holds] > waits_s[holds]), _mean(waits_s[silences.ends]))


def decide(p_end: Floats, threshold: float, delay_s: float, timeout_s: float) -> Floats:
    """Seconds after which a policy ends each pause, (n,); `p_end` is (n, m)."""
    allowed = (p_end >= threshold) & (delay_s - 1e-9 <= MOMENTS_S)
    first = np.where(allowed.any(1), MOMENTS_S[allowed.argmax(1)], np.inf)
    return np.asarray(np.minimum(first, timeout_s))


def curve(p_end: Floats, silences: Silences) -> list[Cost]:
    """The best of all policies: from few cut-offs and a long wait to the reverse."""
    found: set[tuple[float, float]] = set()
    holds, ends = ~silences.ends, silences.ends
    length_s = silences.length_s[holds]
    for threshold in _THRESHOLDS:
        for delay_s in _DELAYS_S:
            first_s = decide(p_end, threshold, delay_s, np.inf)
            for timeout_s in _TIMEOUTS_S:
                waits_s = np.minimum(first_s, timeout_s)
                found.add((_mean(length_s > waits_s[holds]), _mean(waits_s[ends])))
    best: list[Cost] = []
    for cut, wait_s in sorted(found):
        if not best or wait_s < best[-1].wait_s - 1e-12:
            best.append(Cost(cut, wait_s))
    return best


def cut_at(curve: Sequence[Cost], wait_s: float) -> float:
    """The least share of cut-offs at a mean wait of at most `wait_s`."""
    return min((c.cut for c in curve if c.wait_s <= wait_s + 1e-9), default=float("nan"))


def wait_at(curve: Sequence[Cost], cut: float) -> float:
    """The shortest mean wait with at most this share of cut-offs."""
    return min((c.wait_s for c in curve if c.cut <= cut + 1e-9), default=float("nan"))


def auc(p_end: Floats, ends: NDArray[np.bool_]) -> float:
    """How often an end is given a higher P(end) than a hold; ties count half. Both (n,)."""
    if ends.all() or not ends.any():
        return float("nan")
    over = p_end[ends][:, None] - p_end[~ends][None]
    return float(((over > 0) + 0.5 * (over == 0)).mean())


def _mean(values: Floats | NDArray[np.bool_]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
