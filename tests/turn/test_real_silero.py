"""The default detector on speech: turns where a listener hears turns, and none in noise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from textpro_stream import store
from textpro_stream.audio.files import FileSource
from textpro_stream.audio.frames import Framer
from textpro_stream.config import TurnOptions
from textpro_stream.contracts import (
    SAMPLE_RATE,
    AudioChunk,
    ListenedFrame,
    TurnSignal,
    samples_of_ms,
)
from textpro_stream.ports import VadModel
from textpro_stream.turn import BargeIn, Endpointer, load_vad, p_end_of_turn

pytestmark = pytest.mark.weights

CLIPS = Path(__file__).parents[1] / "data"
DEV = Path(__file__).parents[3] / "shared" / "data"  # development speech, where it is
OPTIONS = TurnOptions(end_of_turn="words", silence_ms=500)


@pytest.fixture(scope="module")
def silero() -> VadModel:
    return load_vad(OPTIONS, store.resolve("silero-vad", "vad"))


def frames(path: Path) -> list[AudioChunk]:
    """A clip and two seconds of silence, on the frame grid."""
    framer, found, end = Framer(), [], 0
    for chunk in FileSource(path).chunks():
        found += framer.push(chunk)
        end = chunk.end
    silence: NDArray[np.float32] = np.zeros(2 * SAMPLE_RATE, np.float32)
    return [*found, *framer.push(AudioChunk(silence, end)), *framer.finish()]


def turns(
    model: VadModel, path: Path, words: Callable[[int], str] = lambda n: ""
) -> list[TurnSignal]:
    """What the endpoint machine says; `words(n)` is the text at the nth pause."""
    endpointer = Endpointer(model.open(), OPTIONS)
    signals: list[TurnSignal] = []
    n_pauses = 0
    for frame in frames(path):
        new = endpointer.push(ListenedFrame(frame))
        signals += new
        if any(signal.kind == "eager" for signal in new):
            endpointer.evidence(p_end_of_turn(words(n_pauses)))
            n_pauses += 1
    return signals


def kinds(signals: list[TurnSignal]) -> list[str]:
    return [signal.kind for signal in signals]


def test_two_questions_are_two_turns(silero: VadModel) -> None:
    signals = turns(silero, CLIPS / "two_questions.flac", lambda _: "Is it?")
    assert kinds(signals) == [*("speech_started", "speech_stopped", "eager", "endpoint")] * 2
    for stopped, ended in pairwise(signals):
        if ended.kind == "endpoint":
            assert stopped.speech == ended.speech
            assert ended.reason == "complete"
            wait = ended.at - ended.speech
            assert samples_of_ms(500) <= wait <= samples_of_ms(550)


def test_a_thinking_pause_is_waited_for_because_of_a_comma(silero: VadModel) -> None:
    clip = CLIPS / "thinking_pause.flac"
    texts = ["I would like to know,", "I would like to know, which animal is the fastest on land."]
    patient = kinds(turns(silero, clip, lambda n: texts[min(n, 1)]))
    assert patient.count("endpoint") == 1
    assert "resumed" in patient
    hasty = kinds(turns(silero, clip, lambda _: "I would like to know."))
    assert hasty.count("endpoint") == 2


def test_an_interruption_stops_a_reply(silero: VadModel) -> None:
    endpointer, barge_in = Endpointer(silero.open(), OPTIONS), BargeIn(OPTIONS)
    said: dict[str, int] = {}
    onset = 0
    for frame in frames(CLIPS / "interruption.flac"):
        for signal in endpointer.push(ListenedFrame(frame)):
            if signal.kind == "speech_started":
                onset = signal.speech
        if spoken := barge_in.push(endpointer.voice, interruptible=True):
            said[spoken] = frame.end
    assert list(said) == ["duck", "stop"]
    assert said["duck"] - onset <= samples_of_ms(140)
    assert said["stop"] - onset <= samples_of_ms(450)


@pytest.mark.skipif(not DEV.exists(), reason="want development speech that is not public")
class TestDevelopmentSpeech:
    def test_rooms_kitchens_offices_and_birds_open_no_turn(self, silero: VadModel) -> None:
        clips = [p for p in (DEV / "noise" / "audio").glob("*.flac") if "music" not in p.name]
        assert clips
        assert [clip.name for clip in clips if turns(silero, clip)] == []

    def test_an_order_is_one_turn_and_its_first_word_is_heard(self, silero: VadModel) -> None:
        signals = turns(silero, DEV / "dev" / "audio" / "azure-weather.flac")
        assert kinds(signals) == ["speech_started", "speech_stopped", "eager", "endpoint"]
        assert signals[0].speech - samples_of_ms(OPTIONS.preroll_ms) < samples_of_ms(100)
