from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from openai.types.realtime import RealtimeSessionCreateRequest
from pydantic import TypeAdapter

from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.server.fields import Refused
from textpro_stream.server.realtime.rules import ALIASES, SEMANTIC_VAD, SERVER_VAD, Offer
from textpro_stream.server.realtime.session import (
    configuration,
    opened,
    tools_of,
    turn_detection,
    updated,
)

OFFER = Offer("tiny-llm", "tiny.en", "en-us", TurnOptions(), LlmOptions())
STRICT = TypeAdapter(RealtimeSessionCreateRequest)
TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}


def begin(offer: Offer = OFFER) -> dict[str, Any]:
    return opened(offer, "sess_1", transcription=False, expires_at=1)


def audio_in(**fields: Any) -> dict[str, Any]:
    return {"audio": {"input": fields}}


def audio_out(**fields: Any) -> dict[str, Any]:
    return {"audio": {"output": fields}}


def refusal(patch: Any, session: dict[str, Any] | None = None, **facts: bool) -> Refused:
    session = session or begin()
    before = deepcopy(session)
    with pytest.raises(Refused) as caught:
        updated(session, patch, OFFER, **facts)
    assert session == before
    return caught.value


def rules(session: dict[str, Any]) -> TurnOptions:
    turn = configuration(session, OFFER).turn
    assert turn is not None
    return turn


def test_the_defaults_are_those_that_are_documented() -> None:
    session = begin()
    STRICT.validate_python(session)
    assert session["output_modalities"] == ["audio"]
    assert turn_detection(session) == SERVER_VAD
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}


def test_without_a_voice_a_session_writes() -> None:
    silent = replace(OFFER, voice=None)
    session = begin(silent)
    assert session["output_modalities"] == ["text"]
    with pytest.raises(Refused, match="no voice"):
        updated(session, {"output_modalities": ["audio"]}, silent)


def test_a_missing_key_keeps_and_null_clears() -> None:
    session = updated(
        begin(), audio_in(turn_detection={"type": "server_vad", "threshold": 0.7}), OFFER
    )
    assert turn_detection(session) == SERVER_VAD | {"threshold": 0.7}
    session = updated(session, audio_in(turn_detection={"silence_duration_ms": 300}), OFFER)
    assert turn_detection(session) == SERVER_VAD | {"threshold": 0.7, "silence_duration_ms": 300}
    session = updated(session, audio_in(turn_detection=None, transcription=None), OFFER)
    assert turn_detection(session) is None
    assert session["audio"]["input"]["transcription"] is None
    assert session["audio"]["output"]["voice"] == "alloy"
    session = updated(session, audio_in(turn_detection={}), OFFER)
    assert turn_detection(session) == SERVER_VAD


def test_another_kind_of_detection_has_its_own_defaults_and_keeps_the_choices() -> None:
    session = updated(begin(), audio_in(turn_detection={"create_response": False}), OFFER)
    session = updated(session, audio_in(turn_detection={"type": "semantic_vad"}), OFFER)
    assert turn_detection(session) == SEMANTIC_VAD | {"create_response": False}


@pytest.mark.parametrize(
    "patch",
    [
        {"type": "realtime", "model": "gpt-realtime", "instructions": "Be brief."},
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}},
        {"max_output_tokens": 7, "truncation": "disabled", "parallel_tool_calls": False},
        {"truncation": {"type": "retention_ratio", "retention_ratio": 0.8}},
        {"tracing": "auto", "prompt": {"id": "p"}, "reasoning": {"effort": "low"}},
        {"include": ["item.input_audio_transcription.logprobs"]},
        audio_in(noise_reduction={"type": "near_field"}, transcription={"model": "whisper-1"}),
        audio_in(format={"type": "audio/pcmu"}),
        audio_out(format={"type": "audio/pcm"}, voice="marin", speed=1.25),
        audio_out(voice={"id": "en-us"}),
        {},
    ],
)
def test_what_clients_send_is_taken_and_stays_strictly_valid(patch: dict[str, Any]) -> None:
    session = updated(begin(), patch, OFFER)
    STRICT.validate_python(session)
    assert session["model"] == "tiny-llm"  # the true one, whatever was asked for


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        ([], "session"),
        ({"type": "transcription"}, "session.type"),
        ({"colour": "red"}, "session.colour"),
        ({"output_modalities": ["audio", "text"]}, "session.output_modalities"),
        ({"max_output_tokens": 0}, "session.max_output_tokens"),
        ({"max_output_tokens": True}, "session.max_output_tokens"),
        ({"instructions": None}, "session.instructions"),
        ({"tools": [{"type": "mcp"}]}, "session.tools[0].type"),
        ({"tools": [TOOL, TOOL]}, "session.tools"),
        ({"tools": [{"type": "function"}]}, "session.tools[0].name"),
        ({"tool_choice": "sometimes"}, "session.tool_choice"),
        ({"truncation": {"type": "retention_ratio"}}, "session.truncation"),
        ({"tracing": 5}, "session.tracing"),
        ({"prompt": {}}, "session.prompt.id"),
        ({"audio": None}, "session.audio"),
        (audio_in(turn_detection={"threshold": 2}), "session.audio.input.turn_detection.threshold"),
        (audio_in(turn_detection={"type": "x"}), "session.audio.input.turn_detection.type"),
        (
            audio_in(turn_detection={"type": "semantic_vad", "threshold": 0.5}),
            "session.audio.input.turn_detection.threshold",
        ),
        (audio_out(voice="nobody"), "session.audio.output.voice"),
        (audio_out(speed=2), "session.audio.output.speed"),
    ],
)
def test_what_cannot_be_is_refused_whole(patch: Any, param: str) -> None:
    if isinstance(patch, dict):
        patch = {"instructions": "changed"} | patch
    assert refusal(patch).param == param


@pytest.mark.parametrize(
    ("field", "new"),
    [
        ("modalities", "output_modalities"),
        ("input_audio_format", "session.audio.input.format"),
        ("turn_detection", "session.audio.input.turn_detection"),
        ("voice", "session.audio.output.voice"),
    ],
)
def test_fields_of_the_beta_are_told_their_new_place(field: str, new: str) -> None:
    assert new in refusal({field: None}).message


@pytest.mark.parametrize(
    "wrong",
    ["pcm16", {"type": "audio/pcm", "rate": 16_000}, {"type": "audio/opus"}, {"type": []}, None],
)
def test_a_wrong_format_is_told_the_right_ones(wrong: Any) -> None:
    refused = refusal(audio_in(format=wrong))
    assert refused.code == "unsupported_audio_format"
    assert "audio/pcma" in refused.message


def test_what_is_in_use_stays() -> None:
    assert refusal(audio_in(format={"type": "audio/pcmu"}), heard_audio=True).param
    assert refusal(audio_out(voice=ALIASES[3]), spoke=True).param
    updated(begin(), {"instructions": "New."}, OFFER, heard_audio=True, spoke=True)


def test_server_vad_ends_a_turn_after_any_pause_of_that_length() -> None:
    patch = audio_in(
        turn_detection={"threshold": 0.6, "prefix_padding_ms": 200, "silence_duration_ms": 700}
    )
    turn = rules(updated(begin(), patch, OFFER))
    assert (turn.threshold, turn.preroll_ms) == (0.6, 200)
    assert turn.silence_ms == turn.silence_long_ms == 700
    assert turn.eager_ms <= 700


def test_eagerness_chooses_the_longest_wait_and_how_many_may_be_cut_off() -> None:
    def wait(eagerness: str) -> tuple[int, float]:
        patch = audio_in(turn_detection={"type": "semantic_vad", "eagerness": eagerness})
        turn = rules(updated(begin(), patch, OFFER))
        assert turn.silence_ms <= turn.silence_long_ms
        return turn.silence_long_ms, -turn.false_cutoffs

    assert wait("low") > wait("medium") == wait("auto") > wait("high")


def test_without_detection_the_client_holds_the_key() -> None:
    session = updated(begin(), audio_in(turn_detection=None), OFFER)
    assert rules(session).push_to_talk
    assert not rules(session).barge_in
    assert configuration(session, OFFER).replies is False


def test_speech_may_interrupt_unless_the_client_forbids_it() -> None:
    assert rules(begin()).barge_in
    forbidden = audio_in(turn_detection={"interrupt_response": False})
    assert not rules(updated(begin(), forbidden, OFFER)).barge_in


def test_tools_are_what_the_choice_leaves_of_them() -> None:
    other = TOOL | {"name": "g"}

    def names(choice: Any) -> list[str]:
        session = updated(begin(), {"tools": [TOOL, other], "tool_choice": choice}, OFFER)
        return [tool.name for tool in tools_of(session)]

    assert names("auto") == names("required") == ["f", "g"]
    assert names("none") == []
    assert names({"type": "function", "name": "g"}) == ["g"]
