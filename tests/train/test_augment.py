"""Other rooms and microphones: as strong as asked for, and nothing moves in time."""

from __future__ import annotations

import numpy as np
import pytest

from textpro_stream.train.augment import (
    Augmentation,
    augment,
    by_telephone,
    coloured,
    in_room,
    with_gain,
    with_noise,
)

RNG = np.random.default_rng(0)
CLIP = (0.1 * RNG.standard_normal(16_000)).astype(np.float32)


def tone(hz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000).astype(np.float32)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_is_as_loud_as_asked(snr_db: float) -> None:
    noisy = with_noise(CLIP, coloured(len(CLIP), 1.0, RNG), snr_db)
    assert 20 * np.log10(rms(CLIP) / rms(noisy - CLIP)) == pytest.approx(snr_db, abs=0.01)


def test_a_telephone_lets_speech_through_and_no_more() -> None:
    for hz, passes in ((100, False), (150, False), (500, True), (3000, True), (6000, False)):
        assert (rms(by_telephone(tone(hz))) > 0.6) == passes


def test_a_room_adds_a_tail_and_no_delay() -> None:
    click = np.zeros(16_000, np.float32)
    click[4000] = 1.0
    wet = in_room(click, 0.4, RNG)
    assert np.argmax(np.abs(wet)) == 4000
    assert np.abs(wet[:4000]).max() < 1e-4
    early, late = rms(wet[4100:5000]), rms(wet[8000:9000])
    assert early > 10 * late > 0


def test_colours_fall_as_they_should() -> None:
    for slope, db in ((0.0, 0.0), (1.0, -3.0), (2.0, -6.0)):
        power = np.square(np.abs(np.fft.rfft(coloured(160_000, slope, RNG))))
        octaves = power[10_000:20_000].mean() / power[20_000:40_000].mean()
        assert -10 * np.log10(octaves) == pytest.approx(db, abs=0.5)


def test_gain_clips_at_full_scale() -> None:
    assert np.abs(with_gain(tone(440), 12.0)).max() == 1.0
    assert rms(with_gain(CLIP, -20.0)) == pytest.approx(rms(CLIP) / 10, rel=1e-3)


def test_one_seed_draws_one_sound() -> None:
    drawn = [
        augment(CLIP, Augmentation(), [CLIP[:500]], np.random.default_rng(seed))
        for seed in (3, 3, 4)
    ]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert all(len(x) == len(CLIP) and np.abs(x).max() <= 1 for x in drawn)
