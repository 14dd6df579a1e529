"""The JSON lines are an interface: every field of every event, by name."""

import json
import math
from typing import get_args

import numpy as np
import pytest
import torch

from textpro_stream import events
from textpro_stream.contracts import ProsodyWindow, SpokenChunk, TokenSpan, ToneReading, ToolCall
from textpro_stream.wire import to_json, to_line

SPAN = TokenSpan((1, 2), " Hello", 1600, 4800, -0.25, torch.zeros(2, 4))
NEXT = TokenSpan((3,), ",", 4800, 4800, -0.5, torch.zeros(1, 4))
WINDOW = ProsodyWindow(
    start=0,
    end=32000,
    n_tokens=5,
    embedding=np.array([0.5, -1.0], np.float32),
    f0_hz=142.123456,
    f0_semitones=None,
    energy_dbfs=-math.inf,
    energy_z=0.5,
    rate_tps=3.0,
)
TONE = ToneReading(0.8124, 2.5, None, 1.25, 3.0, {"anger": 0.5, "neutral": 0.5})
SPOKEN = SpokenChunk(np.zeros(11025, np.float32), 22050, 22050, 12)

CASES: list[tuple[events.Event, str, dict[str, object]]] = [
    (events.SpeechStarted(2, 16000, 12000), "speech.started", {"speech_s": 0.75}),
    (events.SpeechStopped(2, 16000, 12000), "speech.stopped", {"speech_s": 0.75}),
    (events.HypothesisChanged(2, 16000, " wor"), "transcript.hypothesis", {"text": " wor"}),
    (
        events.WordsCommitted(2, 16000, (SPAN, NEXT)),
        "transcript.committed",
        {
            "text": " Hello,",
            "start_s": 0.1,
            "end_s": 0.3,
            "tokens": [
                {"text": " Hello", "start_s": 0.1, "end_s": 0.3, "logprob": -0.25},
                {"text": ",", "start_s": 0.3, "end_s": 0.3, "logprob": -0.5},
            ],
        },
    ),
    (
        events.ProsodyUpdated(2, 16000, WINDOW),
        "prosody.window",
        {
            "start_s": 0.0,
            "end_s": 2.0,
            "n_tokens": 5,
            "f0_hz": 142.123,
            "f0_semitones": None,
            "energy_dbfs": None,
            "energy_z": 0.5,
            "rate_tps": 3.0,
        },
    ),
    (
        events.TranscriptRevised(2, 16000, (SPAN,)),
        "transcript.revised",
        {
            "text": " Hello",
            "tokens": [{"text": " Hello", "start_s": 0.1, "end_s": 0.3, "logprob": -0.25}],
        },
    ),
    (
        events.TurnTone(2, 16000, TONE),
        "turn.tone",
        {
            "arousal": 0.812,
            "pitch": 2.5,
            "loudness": None,
            "pace": 1.25,
            "rising": 3.0,
            "emotion": {"anger": 0.5, "neutral": 0.5},
            "guess": "anger",
        },
    ),
    (events.TurnEager(2, 16000), "turn.eager", {}),
    (events.TurnResumed(2, 16000), "turn.resumed", {}),
    (
        events.TurnEnded(2, 16000, " Hello,", "silence"),
        "turn.endpoint",
        {"transcript": " Hello,", "reason": "silence", "replies": True},
    ),
    (events.ReplyStarted(2, 16000), "reply.started", {}),
    (events.ReplyText(2, 16000, "Hi"), "reply.delta", {"text": "Hi"}),
    (events.ReplyAudio(2, 16000, SPOKEN), "speech.audio", {"start_s": 1.0, "duration_s": 0.5}),
    (events.ReplyDucked(2, 16000, True), "reply.ducked", {"ducked": True}),
    (
        events.ToolCalled(2, 16000, ToolCall("lamp", '{"on": true}')),
        "tool.call",
        {"name": "lamp", "arguments": '{"on": true}'},
    ),
    (
        events.ReplyGiven(2, 16000, "Hi", "length", {"first_token": -0.12345}),
        "reply.given",
        {"text": "Hi", "reason": "length", "marks": {"first_token": -0.1235}},
    ),
    (
        events.ReplyEnded(2, 16000, "Hi", "stop"),
        "reply.done",
        {"text": "Hi", "reason": "stop"},
    ),
    (
        events.TurnLatency(2, 16000, {"ttft_ready": -0.12345, "spec_waste": 0.0}),
        "turn.latency",
        {"ttft_ready": -0.1235, "spec_waste": 0.0},
    ),
    (
        events.Failed(2, 16000, "weights", "no model"),
        "error",
        {"code": "weights", "message": "no model"},
    ),
    (
        events.Finished(2, 16000, 1, 7, 0.5, {"encoder": 0.01}, {"decoder_steps_per_token": 1.5}),
        "source.done",
        {
            "audio_s": 1.0,
            "turns": 1,
            "words": 7,
            "cpu_s": 0.5,
            "rtf": {"encoder": 0.01},
            "work": {"decoder_steps_per_token": 1.5},
        },
    ),
]


@pytest.mark.parametrize(("event", "kind", "fields"), CASES, ids=[kind for _, kind, _ in CASES])
def test_every_event_has_exactly_its_fields(
    event: events.Event, kind: str, fields: dict[str, object]
) -> None:
    head = {"type": kind, "turn": 2, "at_s": 1.0, "wall_s": 0.5, "source": "a b.wav"}
    line = to_line(event, source="a b.wav", wall_s=0.5)
    assert "\n" not in line
    assert json.loads(line) == head | fields


def test_no_event_is_left_out() -> None:
    assert {type(event) for event, _, _ in CASES} == set(get_args(events.Event))


def test_vectors_add_the_embedding() -> None:
    event = events.ProsodyUpdated(1, 0, WINDOW)
    assert to_json(event, source="-", wall_s=0, vectors=True)["embedding"] == [0.5, -1.0]
    assert "embedding" not in to_json(event, source="-", wall_s=0)


def test_words_of_other_scripts_stay_readable() -> None:
    event = events.ReplyText(1, 0, "naïve 日本")
    assert "naïve 日本" in to_line(event, source="-", wall_s=0)


def test_numbers_that_json_lacks_become_null() -> None:
    event = events.Finished(1, 16000, 0, 0, math.nan, {"llm": math.inf}, {})
    value = json.loads(to_line(event, source="-", wall_s=0))
    assert value["cpu_s"] is None
    assert value["rtf"] == {"llm": None}
