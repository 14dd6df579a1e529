from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from textpro_stream.config import ProsodyOptions
from textpro_stream.contracts import (
    SAMPLE_RATE,
    AudioChunk,
    ListenedFrame,
    ProsodyWindow,
    TokenSpan,
)
from textpro_stream.prosody import ProsodyTracker
from textpro_stream.prosody.acoustics import KEPT_S

OPTIONS = ProsodyOptions(window_ms=2_000, hop_ms=1_000, tone=False)  # it has its own tests
D = 4


def tone(seconds: float, f0_hz: float, gain: float = 0.3) -> NDArray[np.float32]:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (gain * np.sin(2 * np.pi * f0_hz * time)).astype(np.float32)


def span(start_s: float, end_s: float, n_ids: int = 1, value: float = 1.0) -> TokenSpan:
    states = value * torch.arange(1, n_ids + 1).float()[:, None] * torch.ones(D)
    return TokenSpan(
        tuple(range(n_ids)),
        " word",
        round(start_s * SAMPLE_RATE),
        round(end_s * SAMPLE_RATE),
        -0.1,
        states,
    )


def run(
    audio: NDArray[np.float32],
    words: list[tuple[float, TokenSpan]],
    cuts: list[int] | None = None,
    turn_ends: tuple[float, ...] = (),
    tracker: ProsodyTracker | None = None,
) -> list[list[ProsodyWindow]]:
    """Windows per push. Each word comes with the piece of audio that reaches its second."""
    tracker = tracker or ProsodyTracker(OPTIONS)
    events = [round(s * SAMPLE_RATE) for s, _ in words] + [
        round(s * SAMPLE_RATE) for s in turn_ends
    ]
    edges = sorted({0, len(audio), *(cuts or []), *events})
    out = []
    for a, b in itertools.pairwise(edges):
        due = tuple(word for s, word in words if round(s * SAMPLE_RATE) == b)
        ends = any(round(s * SAMPLE_RATE) == b for s in turn_ends)
        out.append(tracker.push(ListenedFrame(AudioChunk(audio[a:b], a), due, ends)))
    out.append(tracker.finish())
    return [[one for one in some if isinstance(one, ProsodyWindow)] for some in out]


def flat(windows: list[list[ProsodyWindow]]) -> list[ProsodyWindow]:
    return [window for some in windows for window in some]


def same(a: ProsodyWindow, b: ProsodyWindow) -> bool:
    return all(
        np.allclose(getattr(a, f.name), getattr(b, f.name), rtol=1e-5)
        if getattr(a, f.name) is not None
        else getattr(b, f.name) is None
        for f in fields(ProsodyWindow)
    )


def test_a_window_pools_the_words_in_it() -> None:
    audio = tone(4, 150)
    words = [(2.0, span(0.5, 0.9)), (2.0, span(1.0, 1.4, n_ids=2)), (4.0, span(2.6, 3.0, value=5))]
    first, second = flat(run(audio, words))
    assert (first.start, first.end) == (8_000, 40_000)
    assert first.n_tokens == 2
    assert first.embedding.dtype == np.float32
    assert first.embedding == pytest.approx([(1 + 1 + 2) / 3] * D)
    assert first.f0_hz == pytest.approx(150, rel=0.01)
    assert first.energy_dbfs == pytest.approx(20 * np.log10(0.3) - 3, abs=0.1)
    assert first.rate_tps == pytest.approx(2 / 0.9)
    assert (second.start, second.n_tokens) == (24_000, 1)
    assert second.embedding == pytest.approx([5.0] * D)


def test_windows_wait_until_the_words_have_passed_their_end() -> None:
    words = [(1.0, span(0.2, 0.6)), (3.0, span(1.9, 2.1)), (4.0, span(2.5, 2.9))]
    windows = run(tone(5, 150), words, turn_ends=(4.5,))
    assert [len(some) for some in windows] == [0, 0, 1, 1, 0, 0]


def test_a_lone_word_is_described_when_the_turn_ends() -> None:
    (window,) = flat(run(tone(2, 150), [(1.0, span(0.2, 0.2))], turn_ends=(1.5,)))
    assert window.n_tokens == 1
    assert window.rate_tps == 5  # over the shortest stretch allowed
    assert window.f0_hz == pytest.approx(150, rel=0.02)


def test_silence_and_sound_without_words_give_nothing() -> None:
    assert flat(run(np.zeros(5 * SAMPLE_RATE, np.float32), [])) == []
    assert flat(run(tone(5, 150), [], turn_ends=(2.0,))) == []


def test_a_long_pause_inside_a_turn_gives_no_windows() -> None:
    words = [(1.0, span(0.1, 0.5)), (14.0, span(13.0, 13.4)), (14.0, span(13.5, 13.9))]
    windows = flat(run(tone(15, 150), words, turn_ends=(14.5,)))
    assert all(window.n_tokens > 0 for window in windows)
    assert [window.n_tokens for window in windows] == [1, 2]


def test_every_word_is_in_a_window() -> None:
    words = [(s + 1.0, span(s, s + 0.2, value=s)) for s in np.arange(0.3, 9, 0.7)]
    windows = flat(run(tone(11, 150), words))
    for _, word in words:
        middle = (word.start + word.end) / 2
        assert any(window.start <= middle < window.end for window in windows)
    assert [w.start for w in windows] == [
        windows[0].start + 16_000 * i for i in range(len(windows))
    ]
    # The last window is the first to hold the last word: no echo of it follows.
    assert sum(w.end > words[-1][1].end for w in windows) == 1


def test_turns_do_not_share_windows() -> None:
    words = [(1.0, span(0.2, 0.6)), (3.0, span(2.0, 2.3)), (3.0, span(2.4, 2.5))]
    windows = flat(run(tone(4, 150), words, turn_ends=(1.5, 3.5)))
    assert [(w.start, w.n_tokens) for w in windows] == [(3_200, 1), (32_000, 2)]


def test_the_speaker_is_remembered_from_turn_to_turn() -> None:
    audio = np.concatenate([tone(10, 120, 0.1), tone(2, 240, 0.4)])
    words = [(s + 0.5, span(s, s + 0.4)) for s in np.arange(0.1, 9, 0.5)]
    words.append((11.5, span(10.2, 11.0)))
    windows = flat(run(audio, words, turn_ends=(10.0, 11.9)))
    usual, raised = windows[:-1], windows[-1]
    assert all(abs(w.f0_semitones) < 0.2 for w in usual if w.f0_semitones is not None)
    assert all(abs(w.energy_z) < 1 for w in usual)
    assert raised.f0_semitones == pytest.approx(12, abs=0.3)
    assert raised.energy_z > 1.5


def test_unvoiced_words_have_no_pitch() -> None:
    hiss = (0.05 * np.random.default_rng(0).normal(size=32_000)).astype(np.float32)
    (window,) = flat(run(hiss, [(1.5, span(0.2, 1.0))]))
    assert window.f0_hz is None
    assert window.f0_semitones is None
    assert window.energy_dbfs == pytest.approx(-26, abs=0.5)
    assert window.energy_z == 0


def test_states_of_any_precision_become_float32() -> None:
    word = span(0.2, 0.6)
    half = TokenSpan(word.ids, word.text, word.start, word.end, -0.1, word.states.bfloat16())
    (window,) = flat(run(tone(2, 150), [(1.0, half)]))
    assert window.embedding.dtype == np.float32


@settings(max_examples=40, deadline=None)
@given(
    starts=st.lists(st.floats(0, 8), min_size=1, max_size=25),
    lag_s=st.floats(0.02, 3),
    cuts=st.lists(st.integers(0, 12 * SAMPLE_RATE), max_size=25),
    ends=st.lists(st.floats(0.1, 12), max_size=2),
)
def test_cutting_differently_changes_nothing(
    starts: list[float], lag_s: float, cuts: list[int], ends: list[float]
) -> None:
    rng = np.random.default_rng(1)
    audio = np.concatenate([tone(4, 110), tone(4, 220, 0.1), tone(4, 160)])
    audio += 0.01 * rng.normal(size=len(audio)).astype(np.float32)
    words = [
        (s + lag_s, span(s, s + 0.3, n_ids=1 + i % 2, value=s))
        for i, s in enumerate(sorted(starts))
    ]
    turn_ends = tuple(ends)
    whole = flat(run(audio, words, turn_ends=turn_ends))
    pieces = flat(run(audio, words, cuts, turn_ends))
    assert len(whole) == len(pieces)
    assert all(same(a, b) for a, b in zip(whole, pieces, strict=True))
    assert all(w.n_tokens > 0 and np.isfinite(w.energy_dbfs) and w.rate_tps > 0 for w in whole)


def test_memory_does_not_grow() -> None:
    tracker = ProsodyTracker(OPTIONS)
    audio = tone(1, 150)
    for second in range(KEPT_S + 20):
        words = tuple(span(second - 2 + i / 4, second - 1.8 + i / 4) for i in range(4))
        tracker.push(
            ListenedFrame(AudioChunk(audio, second * SAMPLE_RATE), words if second >= 2 else ())
        )
        assert len(tracker._words) <= 16
