"""Other rooms, other microphones, other noise: the same words as somebody else would send them.

Pure functions of samples (n,) float32 at 16 kHz and a random generator. None of them moves a word
in time, so what was aligned stays aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import SAMPLE_RATE

Samples = NDArray[np.float32]
TELEPHONE_HZ = (300.0, 3400.0)  # ITU-T G.712
LEAST_RMS = 1e-5


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How often, and how much."""

    noise: float = 0.4  # share of clips
    snr_db: tuple[float, float] = (0.0, 30.0)
    room: float = 0.3
    decay_s: tuple[float, float] = (0.1, 0.5)  # to -60 dB
    telephone: float = 0.3
    gain_db: tuple[float, float] = (-18.0, 6.0)  # of every clip

    def scaled(self, share: float) -> Augmentation:
        """The same, for about so large a share of clips."""
        odds = (self.noise, self.room, self.telephone)
        noise, room, telephone = (min(1.0, odd * share / 0.7) for odd in odds)  # 0.7: any of them
        return replace(self, noise=noise, room=room, telephone=telephone)


def augment(
    samples: Samples, rules: Augmentation, noises: Sequence[Samples], rng: np.random.Generator
) -> Samples:
    """A clip as another room and microphone would give it."""
    if rng.random() < rules.room:
        samples = in_room(samples, rng.uniform(*rules.decay_s), rng)
    if rng.random() < rules.noise:
        samples = with_noise(samples, _noise(len(samples), noises, rng), rng.uniform(*rules.snr_db))
    if rng.random() < rules.telephone:
        samples = by_telephone(samples)
    return with_gain(samples, rng.uniform(*rules.gain_db))


def with_gain(samples: Samples, gain_db: float) -> Samples:
    """Louder or softer; what would clip, clips."""
    louder = samples * np.float32(10 ** (gain_db / 20))
    return np.asarray(np.clip(louder, -1.0, 1.0), np.float32)


def with_noise(samples: Samples, noise: Samples, snr_db: float) -> Samples:
    """Noise of equal length, `snr_db` below the clip, both by RMS over all of it."""
    gain = _rms(samples) / _rms(noise) * 10 ** (-snr_db / 20)
    return np.asarray(samples + np.float32(gain) * noise, np.float32)


def in_room(samples: Samples, decay_s: float, rng: np.random.Generator) -> Samples:
    """A room of noise that dies away; the direct sound comes first, so nothing is late."""
    n = round(decay_s * SAMPLE_RATE)
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail[: round(0.002 * SAMPLE_RATE)] = 0.0  # the walls are not in the microphone
    tail *= rng.uniform(0.2, 0.8) / max(float(np.sqrt(np.square(tail).sum())), LEAST_RMS)
    tail[0] = 1.0
    size = 1 << (len(samples) + n - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)]
    return np.asarray(wet * (_rms(samples) / _rms(wet.astype(np.float32))), np.float32)


def by_telephone(samples: Samples) -> Samples:
    """Only what a telephone line lets through."""
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    low, high = TELEPHONE_HZ
    # A slope of 100 Hz on either side: a wall would ring.
    passed = np.clip((hz - low) / 100 + 1, 0, 1) * np.clip((high - hz) / 100 + 1, 0, 1)
    return np.asarray(np.fft.irfft(spectrum * passed, len(samples)), np.float32)


def coloured(n: int, slope: float, rng: np.random.Generator) -> Samples:
    """Noise whose power falls by f ** -slope: 0 white, 1 pink, 2 brown; RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    hz = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 50.0)
    noise = np.fft.irfft(spectrum * hz ** (-slope / 2), n)
    return np.asarray(noise / _rms(noise.astype(np.float32)), np.float32)


def _noise(n: int, noises: Sequence[Samples], rng: np.random.Generator) -> Samples:
    """A stretch of a recorded noise, or, half of the time and where there is none, a made one."""
    if not noises or rng.random() < 0.5:
        return coloured(n, rng.uniform(0.0, 2.0), rng)
    noise = noises[int(rng.integers(len(noises)))]
    begin = int(rng.integers(len(noise)))
    return np.asarray(np.resize(np.roll(noise, -begin), n), np.float32)


def _rms(samples: Samples) -> float:
    return max(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), LEAST_RMS)
