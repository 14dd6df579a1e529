"""The reference of where a clip speaks, and noise of a known level."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from textpro_stream.evaluate.mix import levels_dbfs, mix, runs, speech_mask, surround

RNG = np.random.default_rng(0)


def tone(ms: int, amplitude: float = 0.3) -> NDArray[np.float32]:
    return (amplitude * np.sin(np.arange(ms * 16) * 0.2)).astype(np.float32)


def hush(ms: int) -> NDArray[np.float32]:
    return RNG.normal(0, 1e-3, ms * 16).astype(np.float32)


def test_levels_are_rms() -> None:
    assert levels_dbfs(np.full(1600, 0.1, np.float32)) == pytest.approx(np.full(10, -20.0))
    assert levels_dbfs(np.zeros(1600, np.float32)).max() == pytest.approx(-120.0)


def test_speech_is_found_to_20_ms_and_closures_and_clicks_are_not_boundaries() -> None:
    words = [hush(500), tone(300), hush(100), tone(300), hush(600), tone(200), hush(400)]
    click = [tone(40), hush(400)]
    found = runs(speech_mask(np.concatenate([*words, *click]))) * 10
    assert found == pytest.approx(np.array([[500, 1200], [1800, 2000]]), abs=20)


def test_runs_of_both_values() -> None:
    mask = np.array([True, True, False, True])
    assert runs(mask).tolist() == [[0, 2], [3, 4]]
    assert runs(mask, of=False).tolist() == [[2, 3]]
    assert runs(np.zeros(3, np.bool_)).tolist() == []


@pytest.mark.parametrize("snr_db", [20.0, 0.0, -5.0])
def test_the_noise_has_the_level_it_was_asked_for(snr_db: float) -> None:
    clip = np.concatenate([np.zeros(8000, np.float32), tone(500, 0.05)])
    mask = np.repeat([False, True], 50)
    noise = RNG.normal(0, 0.2, 5000).astype(np.float32)
    mixed = mix(clip, mask, noise, snr_db)
    added = mixed - clip
    speech_db = levels_dbfs(clip)[60:90].mean()
    assert speech_db - 10 * np.log10(np.mean(added**2)) == pytest.approx(snr_db, abs=0.3)


def test_a_loud_mix_is_scaled_and_not_clipped() -> None:
    mixed = mix(tone(500, 0.9), np.ones(50, np.bool_), tone(500, 0.9), 0.0)
    assert np.abs(mixed).max() == pytest.approx(1.0)
    assert np.mean(np.abs(mixed) > 0.999) < 0.1


def test_a_clip_is_surrounded_by_its_own_background() -> None:
    clip = np.concatenate([hush(400), tone(400), hush(400)])
    around = surround(clip, 16_000, 8_000)
    assert len(around) == len(clip) + 24_000
    np.testing.assert_array_equal(around[16_000:-8_000], clip)
    assert levels_dbfs(around[:16_000]).mean() == pytest.approx(-60, abs=1.5)
