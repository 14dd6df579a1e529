from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.prosody.speaker import HALF_LIFE, Speaker

RNG = np.random.default_rng(0)
F0 = (120 * 2 ** (RNG.normal(0, 3, 3_000) / 12)).astype(np.float32)
LEVEL = RNG.normal(-20, 5, 3_000)


def test_nothing_heard_is_nothing_unusual() -> None:
    speaker = Speaker()
    speaker.hear(F0[:0], LEVEL[:0])
    assert speaker.semitones(200) == 0
    assert speaker.deviations(-3) == 0


def test_against_median_and_deviation() -> None:
    speaker = Speaker()
    speaker.hear(F0, LEVEL)
    assert speaker.semitones(120) == pytest.approx(0, abs=0.2)
    assert speaker.semitones(240) == pytest.approx(12, abs=0.2)
    assert speaker.deviations(-20) == pytest.approx(0, abs=0.1)
    assert speaker.deviations(-10) == pytest.approx(2, abs=0.1)


@given(cuts=st.lists(st.integers(0, 3_000), max_size=20))
def test_cutting_differently_changes_nothing(cuts: list[int]) -> None:
    whole, pieces = Speaker(), Speaker()
    whole.hear(F0, LEVEL)
    for a, b in itertools.pairwise([0, *sorted(cuts), 3_000]):
        pieces.hear(F0[a:b], LEVEL[a:b])
    assert pieces.semitones(150) == pytest.approx(whole.semitones(150))
    assert pieces.deviations(-12) == pytest.approx(whole.deviations(-12))


def test_a_new_voice_becomes_usual_after_a_minute_or_two() -> None:
    speaker = Speaker()
    speaker.hear(np.full(20 * HALF_LIFE, 100, np.float32), np.full(20 * HALF_LIFE, -30.0))
    assert speaker.semitones(200) == pytest.approx(12, abs=0.1)
    speaker.hear(np.full(int(1.2 * HALF_LIFE), 200, np.float32), np.full(int(1.2 * HALF_LIFE), -20))
    assert speaker.semitones(200) == pytest.approx(0, abs=0.1)
    assert abs(speaker.deviations(-20)) < abs(speaker.deviations(-30))


def test_a_constant_voice_has_no_enormous_deviations() -> None:
    speaker = Speaker()
    speaker.hear(np.full(100, 100, np.float32), np.full(100, -20.0))
    assert speaker.deviations(-18) == pytest.approx(2)


def test_impossible_pitches_do_no_harm() -> None:
    speaker = Speaker()
    speaker.hear(np.array([1, 5_000], np.float32), np.array([-20.0, -20.0]))
    assert np.isfinite(speaker.semitones(100))
