"""How a turn sounds: against the speaker's own, and what is read off the states."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from textpro_stream.config import ProsodyOptions
from textpro_stream.contracts import (
    SAMPLE_RATE,
    UNSURE,
    AudioChunk,
    ListenedFrame,
    ProsodyWindow,
    TokenSpan,
    ToneReading,
)
from textpro_stream.errors import WeightsError
from textpro_stream.prosody import ProsodyTracker
from textpro_stream.prosody.tone import ToneHead, ToneWeights, find_tone

Audio = NDArray[np.float32]
WEIGHTS = ToneWeights(
    ("anger", "neutral"),
    emotion=np.array([[9.0, 0.0], [-9.0, 0.0], [0.0, 0.0]], np.float32),  # the last: plain speech
    emotion_bias=np.array([0.0, 0.0, 9.0], np.float32),
    arousal=np.array([2.0, 0.0], np.float32),
    arousal_bias=np.zeros(1, np.float32),
    arousal_trust=np.ones(1, np.float32),
    recogniser="ours",
)
HEAD = ToneHead(WEIGHTS)
ANGRY, FLAT = (1.0, 0.0), (0.0, 0.0)


def voice(seconds: float, f0_hz: float | tuple[float, float], gain: float = 0.2) -> Audio:
    """A tone; from one pitch to another where two are given."""
    low, high = f0_hz if isinstance(f0_hz, tuple) else (f0_hz, f0_hz)
    hz = np.linspace(low, high, round(seconds * SAMPLE_RATE))
    return (gain * np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE)).astype(np.float32)


class Talk:
    """A tracker that is told turns."""

    def __init__(self, head: ToneHead | None = HEAD, *, tone: bool = True) -> None:
        self._tracker = ProsodyTracker(ProsodyOptions(tone=tone), head)
        self._at = 0
        self.windows: list[ProsodyWindow] = []

    def turn(
        self,
        audio: Audio,
        words: int = 8,
        state: tuple[float, ...] = FLAT,
        text: str = " word",
        cuts: tuple[int, ...] = (3200,),
    ) -> list[ToneReading]:
        """What is told of the turn as a whole; its words are as long as each other."""
        length = len(audio) // words
        spans = tuple(
            TokenSpan(
                (i,),
                text,
                self._at + i * length,
                self._at + (i + 1) * length,
                -0.1,
                torch.tensor([state]),
            )
            for i in range(words)
        )
        found: list[ProsodyWindow | ToneReading] = []
        samples = np.concatenate([audio, np.zeros(3200, np.float32)])
        before = [self._tracker.tone(spans) for _ in range(2)]  # changes nothing
        at = n = 0
        while at < len(samples):
            part = samples[at : at + cuts[n % len(cuts)]]
            found += self._tracker.push(ListenedFrame(AudioChunk(part, self._at + at)))
            at, n = at + len(part), n + 1
        self._at += len(samples)
        nothing = AudioChunk(np.zeros(0, np.float32), self._at)
        found += self._tracker.push(ListenedFrame(nothing, spans, ends_turn=True))
        self.windows += [one for one in found if isinstance(one, ProsodyWindow)]
        told = [one for one in found if isinstance(one, ToneReading)]
        assert [one and one.named for one in before] == [one.named for one in told] * 2 or not told
        return told


def test_a_first_turn_has_nothing_to_be_compared_with() -> None:
    (first,) = Talk().turn(voice(5, 120))
    assert (first.pitch, first.loudness, first.pace) == (None, None, None)


def test_a_turn_is_compared_with_those_before_it_and_not_with_itself() -> None:
    talk = Talk()
    talk.turn(voice(6, 120, gain=0.1), words=12)
    (second,) = talk.turn(voice(6, 120 * 2 ** (4 / 12), gain=0.2), words=24)
    assert second.pitch == pytest.approx(4, abs=0.2)
    assert second.loudness == pytest.approx(6.02, abs=0.3)
    assert second.pace == pytest.approx(2, rel=0.05)
    (third,) = talk.turn(voice(3, 120, gain=0.1), words=2)
    assert third.pace is None  # too few words to tell


@pytest.mark.parametrize(("end_hz", "semitones"), [(240, 6), (120, 0), (80, -4)])
def test_a_rising_end_is_told(end_hz: float, semitones: float) -> None:
    audio = np.concatenate([voice(3, 120), voice(0.3, (120, end_hz))])
    (tone,) = Talk().turn(audio)
    assert tone.rising == pytest.approx(semitones, abs=2.5)


def test_a_whisper_has_no_pitch_to_rise() -> None:
    rng = np.random.default_rng(0)
    (tone,) = Talk().turn(0.01 * rng.standard_normal(3 * SAMPLE_RATE).astype(np.float32))
    assert tone.rising is None
    assert tone.pitch is None


def test_emotion_and_arousal_are_read_off_the_states() -> None:
    (angry,) = Talk().turn(voice(3, 150), state=ANGRY)
    assert angry.emotion["anger"] == pytest.approx(0.75, abs=0.01)  # half of it is plain
    assert sum(angry.emotion.values()) == pytest.approx(1)
    assert angry.guess == "anger"
    assert angry.arousal == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-3)


def test_a_coin_s_chance_is_told_as_unsure() -> None:
    (flat,) = Talk().turn(voice(3, 150), state=FLAT)
    assert flat.arousal is None
    assert replace(flat, emotion={f"label {i}": 0.2 for i in range(5)}).guess == UNSURE
    assert replace(flat, emotion={}).guess == UNSURE


def test_without_a_readout_what_is_measured_is_told_all_the_same() -> None:
    talk = Talk(head=None)
    talk.turn(voice(5, 120))
    (second,) = talk.turn(voice(3, 180))
    assert (second.emotion, second.arousal) == ({}, None)
    assert second.pitch is not None


def test_windows_tell_it_too_but_not_how_they_end() -> None:
    talk = Talk()
    talk.turn(voice(5, 150), words=15, state=ANGRY)
    assert talk.windows
    for window in talk.windows:
        assert window.tone is not None
        assert window.tone.guess == "anger"
        assert window.tone.rising is None


def test_it_can_be_switched_off() -> None:
    talk = Talk(tone=False)
    assert talk.turn(voice(5, 150)) == []
    assert [window.tone for window in talk.windows] == [None] * len(talk.windows)
    assert talk.windows


def test_sounds_without_words_have_no_tone() -> None:
    assert Talk().turn(voice(3, 150), text=".") == []
    assert Talk().turn(voice(3, 150), words=1, text=" ") == []


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(100, 20_000), min_size=1, max_size=5))
def test_cutting_differently_changes_nothing(cuts: list[int]) -> None:
    readings = []
    for sizes in ((3200,), tuple(cuts)):
        talk = Talk()
        talk.turn(voice(5, (110, 140)), state=ANGRY, cuts=sizes)
        readings.append(talk.turn(voice(4, (160, 120)), words=11, cuts=sizes))
    assert readings[0] == readings[1]


def test_a_saved_readout_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "tone.safetensors"
    WEIGHTS.save(path)
    state = np.array([0.3, 1.0], np.float32)
    found = find_tone(str(path), "ours")
    assert found is not None
    assert found.emotion(state) == HEAD.emotion(state)
    with pytest.raises(WeightsError, match="another recogniser"):
        find_tone(str(path), "another")
    assert find_tone("auto", "a model that nothing is shipped for") is None


def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / "broken"):
        (tmp_path / "broken").write_bytes(b"no")
        with pytest.raises(WeightsError, match="no tone readout") as told:
            find_tone(str(path), "ours")
        assert "\n" not in str(told.value)
