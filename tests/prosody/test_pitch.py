from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from textpro_stream.prosody.pitch import F0_MAX_HZ, F0_MIN_HZ, WINDOW, pitch

TIME = np.arange(WINDOW) / 16_000


def voice(f0_hz: float, seed: int = 0, noise: float = 0.0) -> NDArray[np.float32]:
    """A buzz with falling harmonics and a formant, somewhat like a vowel."""
    rng = np.random.default_rng(seed)
    sound = np.zeros(WINDOW)
    for k in range(1, int(4_000 / f0_hz)):
        gain = 1 / k + 0.5 * np.exp(-(((k * f0_hz - 700) / 150) ** 2))
        sound += gain * np.cos(2 * np.pi * k * f0_hz * TIME + rng.uniform(0, 6))
    return (0.1 * sound / np.abs(sound).max() + noise * rng.normal(size=WINDOW)).astype(np.float32)


def test_the_pitch_of_vowels() -> None:
    hz = np.linspace(F0_MIN_HZ + 2, F0_MAX_HZ - 5, 80)
    found = pitch(np.stack([voice(f0, seed) for seed, f0 in enumerate(hz)]))
    semitones = 12 * np.log2(found / hz)
    assert np.abs(semitones).max() < 0.2


def test_a_little_noise_does_not_matter() -> None:
    hz = np.linspace(80, 300, 40)
    found = pitch(np.stack([voice(f0, seed, noise=0.005) for seed, f0 in enumerate(hz)]))
    voiced = found > 0
    assert voiced.mean() > 0.9
    assert np.abs(12 * np.log2(found[voiced] / hz[voiced])).max() < 0.5


def test_the_lowest_component_may_be_missing() -> None:
    sound = sum(np.sin(2 * np.pi * 120 * k * TIME) for k in (3, 4, 5, 6)) / 10
    assert pitch(sound[None].astype(np.float32)) == pytest.approx(120, rel=0.01)


@pytest.mark.parametrize("kind", ["silence", "constant", "hiss", "too high", "too quiet"])
def test_what_has_no_pitch(kind: str) -> None:
    rng = np.random.default_rng(0)
    frames = {
        "silence": np.zeros((20, WINDOW)),
        "constant": np.full((20, WINDOW), 0.5),
        "hiss": 0.1 * rng.normal(size=(20, WINDOW)),
        "too high": 0.3 * np.sin(2 * np.pi * 2_000 * TIME)[None] * np.ones((20, 1)),
        "too quiet": 1e-3 * voice(120)[None] * np.ones((20, 1)),
    }[kind].astype(np.float32)
    found = pitch(frames)
    if kind == "too high":  # its subharmonics are periods, too; what is found stays in range
        assert ((found == 0) | ((found >= F0_MIN_HZ) & (found <= F0_MAX_HZ))).all()
    else:
        assert not found.any()


def test_each_frame_is_judged_by_itself() -> None:
    frames = np.stack([voice(f0, noise=0.01) for f0 in range(80, 380, 7)])
    together = pitch(frames)
    alone = np.concatenate([pitch(frame[None]) for frame in frames])
    assert np.allclose(together, alone, rtol=1e-5)


def test_no_frames_have_no_pitch() -> None:
    assert pitch(np.zeros((0, WINDOW), np.float32)).shape == (0,)
