"""What policies cost, on pauses small enough to count by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from textpro_stream.evaluate.bootstrap import interval
from textpro_stream.evaluate.policies import (
    MOMENTS_S,
    Silences,
    auc,
    cost,
    curve,
    cut_at,
    decide,
    wait_at,
)

NEVER = float("inf")
# Two ends, and holds of 0.45 and 0.9 s.
SILENCES = Silences(
    np.array([NEVER, NEVER, 0.45, 0.9]), np.array([True, True, False, False]), np.arange(4)
)


def steady(*p_end: float) -> np.ndarray:
    return np.repeat(np.array(p_end)[:, None], len(MOMENTS_S), 1)


def test_a_hold_is_cut_by_who_decides_before_it_is_over() -> None:
    assert cost(np.full(4, 0.5), SILENCES).cut == 0.5
    assert cost(np.full(4, 1.0), SILENCES).cut == 0.0
    assert cost(np.array([0.2, 0.4, 9.0, 9.0]), SILENCES).wait_s == pytest.approx(0.3)


def test_a_policy_decides_at_its_threshold_not_before_its_delay_and_at_its_timeout() -> None:
    rising = np.clip(MOMENTS_S / 2, 0, 1)[None]
    assert decide(rising, 0.25, 0.2, 3.0) == pytest.approx([0.5])
    assert decide(rising, 0.25, 0.7, 3.0) == pytest.approx([0.7])
    assert decide(rising, 0.90, 0.2, 1.0) == pytest.approx([1.0])


def test_a_judge_that_knows_pays_nothing_and_silence_alone_pays() -> None:
    knows, silence = curve(steady(1, 1, 0, 0), SILENCES), curve(steady(1, 1, 1, 1), SILENCES)
    assert (cut_at(knows, 0.3), wait_at(knows, 0.0)) == (0.0, pytest.approx(0.2))
    assert (cut_at(silence, 0.3), wait_at(silence, 0.0)) == (1.0, pytest.approx(0.9))
    assert cut_at(silence, 0.6) == 0.5


def test_no_policy_that_is_worse_in_both_is_on_the_curve() -> None:
    rng = np.random.default_rng(0)
    points = curve(steady(*rng.random(4)), SILENCES)
    assert all(a.cut < b.cut and a.wait_s > b.wait_s for a, b in pairwise(points))


def test_auc_counts_pairs() -> None:
    ends = np.array([True, True, False, False])
    assert auc(np.array([0.9, 0.8, 0.1, 0.2]), ends) == 1.0
    assert auc(np.array([0.5, 0.5, 0.5, 0.5]), ends) == 0.5
    assert auc(np.array([0.9, 0.1, 0.2, 0.0]), ends) == 0.75


def test_pauses_of_one_turn_are_drawn_together() -> None:
    values = np.array([0.0, 1.0, 0.0, 1.0])

    def mean(drawn: np.ndarray) -> float:
        return float(values[drawn].mean())

    assert interval(mean, np.array([0, 0, 1, 1])) == (0.5, 0.5)  # each turn has one of both
    low, high = interval(mean, np.arange(4))
    assert low < 0.5 < high
