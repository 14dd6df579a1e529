from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro_stream.server.realtime.codec import RATES, Decoder, Encoder, duration_ms, milliseconds


def tone(rate_hz: int, seconds: float = 0.5) -> np.ndarray:
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)


def encoded(kind: str, samples: np.ndarray, rate_hz: int) -> list[bytes]:
    encoder = Encoder(kind, rate_hz)
    return encoder.push(samples) + encoder.finish()


def decoded(kind: str, data: bytes, cuts: list[int] = []) -> np.ndarray:  # noqa: B006, read only
    decoder = Decoder(kind)
    edges = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    pieces = [decoder.push(data[a:b]) for a, b in pairwise(edges)]
    return np.concatenate([*pieces, decoder.flush()])


# Values of the tables in ITU-T G.711.
@pytest.mark.parametrize(
    ("kind", "code", "value"),
    [
        ("audio/pcmu", 0xFF, 0),
        ("audio/pcmu", 0x80, 32124),
        ("audio/pcmu", 0x00, -32124),
        ("audio/pcmu", 0xFE, 8),
        ("audio/pcma", 0xD5, 8),
        ("audio/pcma", 0x55, -8),
        ("audio/pcma", 0xAA, 32256),
        ("audio/pcma", 0x2A, -32256),
    ],
)
def test_codes_stand_for_the_values_of_the_standard(kind: str, code: int, value: int) -> None:
    steady = decoded(kind, bytes([code]) * 8000)[4000:12_000]
    assert np.median(steady) * 32768 == pytest.approx(value, abs=1)


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_every_code_comes_back(kind: str) -> None:
    from textpro_stream.server.realtime.codec import _CODES, _LINEAR

    values = _LINEAR[kind].astype(np.int32)
    again = _CODES[kind][values + 32768]
    assert (_LINEAR[kind][again] == _LINEAR[kind]).all()


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize("voice_hz", [16_000, 22_050, 24_000])
def test_a_tone_survives_the_way_out_and_in(kind: str, voice_hz: int) -> None:
    samples = tone(voice_hz)
    back = decoded(kind, b"".join(encoded(kind, samples, voice_hz)))
    assert len(back) == pytest.approx(8000, abs=2)
    middle = slice(1600, 6400)
    error = back[middle] - tone(16_000)[: len(back)][middle]
    assert np.sqrt(np.mean(error**2)) < 0.02  # and so neither early nor late: 440 Hz


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 24_000), max_size=20))
@pytest.mark.parametrize("kind", RATES)
def test_cutting_differently_changes_nothing(kind: str, cuts: list[int]) -> None:
    data = b"".join(encoded(kind, tone(24_000), 24_000))
    np.testing.assert_allclose(decoded(kind, data, cuts), decoded(kind, data), atol=1e-6)


def test_an_odd_byte_is_carried_over() -> None:
    data = b"".join(encoded("audio/pcm", tone(24_000), 24_000))
    cuts = list(range(1, len(data), 2 * 480 + 1))
    np.testing.assert_allclose(decoded("audio/pcm", data, cuts), decoded("audio/pcm", data))


def test_what_follows_a_flush_follows_it_without_a_gap() -> None:
    decoder = Decoder("audio/pcm")
    n = sum(len(decoder.push(bytes(48 * ms))) + len(decoder.flush()) for ms in (100, 250, 1000))
    assert n == 16 * 1350


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=12))
@pytest.mark.parametrize("kind", RATES)
def test_deltas_are_neither_long_nor_short(kind: str, sizes: list[int]) -> None:
    encoder = Encoder(kind, 22_050)
    deltas = [d for size in sizes for d in encoder.push(np.zeros(size, np.float32))]
    last = encoder.finish()
    durations = [duration_ms(kind, len(delta)) for delta in deltas]
    assert all(40 <= ms <= 100 for ms in durations)
    assert all(duration_ms(kind, len(delta)) <= 100 for delta in last)
    assert encoder.sent_ms == pytest.approx(sum(sizes) * 1000 / 22_050, abs=1.5)


def test_positions_are_whole_milliseconds_on_the_wire() -> None:
    assert [milliseconds(p) for p in (-5, 0, 15, 16, 16_000)] == [0, 0, 0, 1, 1000]
