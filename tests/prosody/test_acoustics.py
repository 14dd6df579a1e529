from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.prosody.acoustics import KEPT_S, Acoustics, dbfs

TIME = np.arange(SAMPLE_RATE) / SAMPLE_RATE
GLIDE = (0.3 * np.sin(2 * np.pi * (100 * TIME + 50 * TIME**2))).astype(np.float32)  # 100 to 200 Hz


def run(cuts: list[int]) -> Acoustics:
    acoustics = Acoustics()
    for a, b in itertools.pairwise([0, *sorted(cuts), len(GLIDE)]):
        acoustics.push(GLIDE[a:b])
        if a % 3 == 0:
            acoustics.end()  # asking changes nothing
    return acoustics


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, len(GLIDE)), max_size=30))
def test_cutting_differently_changes_nothing(cuts: list[int]) -> None:
    whole, pieces = run([]), run(cuts)
    assert pieces.end() == whole.end()
    a, b = whole.between(0, SAMPLE_RATE), pieces.between(0, SAMPLE_RATE)
    assert np.allclose(a.f0_hz, b.f0_hz, rtol=1e-5)
    assert np.array_equal(a.power, b.power)


def test_values_are_where_the_sound_was() -> None:
    frames = run([]).between(0, SAMPLE_RATE)
    middle = (np.arange(len(frames.f0_hz)) + 0.5) / 100
    inner = slice(3, None)  # the first frames begin before the sound does
    assert np.allclose(frames.f0_hz[inner], 100 + 100 * middle[inner], rtol=0.01)
    assert 10 * np.log10(frames.power.mean()) == pytest.approx(20 * np.log10(0.3) - 3, abs=0.1)
    later = run([]).between(8_000, 8_320)
    assert len(later.f0_hz) == 2
    assert later.f0_hz == pytest.approx([150.5, 151.5], rel=0.01)


def test_frames_become_known_20_ms_behind_the_audio() -> None:
    acoustics = Acoustics()
    acoustics.push(GLIDE[:4_800])
    assert acoustics.end() == 4_480
    assert len(acoustics.between(0, 99_999).power) == 28
    assert len(acoustics.between(4_480, 4_800).power) == 0


def test_the_oldest_is_forgotten_and_memory_stays() -> None:
    acoustics = Acoustics()
    for second in range(KEPT_S + 5):
        acoustics.push(np.full(SAMPLE_RATE, second / 100, np.float32))
    end = acoustics.end()
    frames = acoustics.between(0, end)
    assert len(frames.power) == KEPT_S * 100
    assert frames.power[-1] == pytest.approx(((KEPT_S + 4) / 100) ** 2)
    assert sum(map(len, acoustics._held)) < 2_500
    assert len(acoustics.between(0, 2 * SAMPLE_RATE).power) == 0


def test_silence_in_decibels_is_finite() -> None:
    assert dbfs(0.0) == -120
    assert dbfs(0.25) == pytest.approx(-6, abs=0.03)
