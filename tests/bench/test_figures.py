from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.bench.figures import (
    FEWEST,
    difference_of_medians,
    ratio_of_medians,
    summarise,
)

TIMES = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=150)


@given(TIMES)
def test_percentiles_are_ordered_and_within_what_was_measured(values: list[float]) -> None:
    summary = summarise(values)
    assert summary["n"] == len(values)
    known = [summary[name] for name in ("p50", "p90", "p95", "p99", "max")]
    known = [value for value in known if value is not None]
    assert known == sorted(known)
    assert min(values) - 1e-4 <= known[0]
    assert summary["max"] == pytest.approx(max(values), abs=1e-4)


def test_a_p99_needs_a_hundred_values() -> None:
    assert summarise([1.0] * 99)["p99"] is None
    assert summarise([1.0] * 100)["p99"] == 1.0


def test_nothing_measured_has_no_percentiles() -> None:
    assert summarise([]) == {
        "n": 0,
        "p50": None,
        "p90": None,
        "p95": None,
        "p99": None,
        "max": None,
    }


def test_percentiles_interpolate() -> None:
    assert summarise([0.0, 1.0, 2.0, 3.0])["p50"] == 1.5


def test_an_interval_covers_the_true_ratio_nearly_always() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(40):
        above, below = rng.normal(2.0, 0.2, 30), rng.normal(1.0, 0.1, 30)
        ratio = ratio_of_medians(list(above), list(below))
        assert ratio.low is not None
        assert ratio.high is not None
        covered += ratio.low <= 2.0 <= ratio.high
    assert covered >= 34


def test_the_same_values_give_the_same_interval() -> None:
    above, below = [1.0 + i / 10 for i in range(20)], [2.0 + i / 7 for i in range(20)]
    assert ratio_of_medians(above, below) == ratio_of_medians(above, below)


def test_too_few_values_have_no_interval_but_a_value() -> None:
    few = [1.0] * (FEWEST - 1)
    ratio = ratio_of_medians([2.0] * 30, few)
    assert (ratio.value, ratio.low, ratio.high) == (2.0, None, None)
    assert (ratio.n_above, ratio.n_below) == (30, FEWEST - 1)


def test_a_ratio_to_a_time_before_zero_means_nothing() -> None:
    assert ratio_of_medians([1.0] * 20, [-1.0] * 20).value is None
    assert ratio_of_medians([], [1.0]).value is None
    assert difference_of_medians([1.0] * 20, [-1.0] * 20).value == 2.0
