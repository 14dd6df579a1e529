from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

import pytest
from openai.types.realtime import RealtimeSessionCreateRequest
from pydantic import BaseModel, TypeAdapter

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


def accepted(session: dict[str, Any], patch: Any, offer: Offer = OFFER) -> dict[str, Any]:
    update = updated(session, patch, offer)
    assert not update.refusals
    return update.session


def refusal(patch: Any, session: dict[str, Any] | None = None, **facts: bool) -> Refused:
    """The one field that stays as it was."""
    session = session or begin()
    before = deepcopy(session)
    (refused,) = updated(session, patch, OFFER, **facts).refusals
    assert session == before
    return refused


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
    (refused,) = updated(session, {"output_modalities": ["audio"]}, silent).refusals
    assert "no voice" in refused.message


def test_a_missing_key_keeps_and_null_clears() -> None:
    session = accepted(
        begin(), audio_in(turn_detection={"type": "server_vad", "threshold": 0.7}), OFFER
    )
    assert turn_detection(session) == SERVER_VAD | {"threshold": 0.7}
    session = accepted(session, audio_in(turn_detection={"silence_duration_ms": 300}), OFFER)
    assert turn_detection(session) == SERVER_VAD | {"threshold": 0.7, "silence_duration_ms": 300}
    session = accepted(session, audio_in(turn_detection=None, transcription=None), OFFER)
    assert turn_detection(session) is None
    assert session["audio"]["input"]["transcription"] is None
    assert session["audio"]["output"]["voice"] == "alloy"
    session = accepted(session, audio_in(turn_detection={}), OFFER)
    assert turn_detection(session) == SERVER_VAD


def test_another_kind_of_detection_has_its_own_defaults_and_keeps_the_choices() -> None:
    session = accepted(begin(), audio_in(turn_detection={"create_response": False}), OFFER)
    session = accepted(session, audio_in(turn_detection={"type": "semantic_vad"}), OFFER)
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
    session = accepted(begin(), patch, OFFER)
    STRICT.validate_python(session)
    assert session["model"] == "tiny-llm"  # the true one, whatever was asked for


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        ({"type": "transcription"}, "session.type"),
        ({"colour": "red"}, "session.colour"),
        ({"output_modalities": ["audio", "text"]}, "session.output_modalities"),
        ({"max_output_tokens": 0}, "session.max_output_tokens"),
        ({"max_output_tokens": True}, "session.max_output_tokens"),
        ({"tools": [{"type": "mcp"}]}, "session.tools[0].server_label"),
        ({"tools": [{"type": "shell"}]}, "session.tools[0].type"),
        ({"tools": [TOOL, TOOL]}, "session.tools[1].name"),
        ({"tools": [{"type": "function"}]}, "session.tools[0].name"),
        ({"tool_choice": "sometimes"}, "session.tool_choice"),
        ({"truncation": {"type": "retention_ratio"}}, "session.truncation"),
        ({"tracing": 5}, "session.tracing"),
        ({"prompt": {}}, "session.prompt.id"),
        ({"audio": 5}, "session.audio"),
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
def test_what_cannot_be_is_named_and_the_rest_takes_effect(patch: Any, param: str) -> None:
    patch = {"instructions": "changed"} | patch
    assert refusal(patch).param == param
    session = updated(begin(), patch, OFFER).session
    assert session["instructions"] == "changed"
    STRICT.validate_python(session)


def test_every_wrong_field_is_named_and_good_tools_stay() -> None:
    patch = {
        "tools": [TOOL, {"type": "function"}, TOOL | {"name": "g"}],
        "colour": "red",
        **audio_in(
            turn_detection={"threshold": 7, "silence_duration_ms": 900}, format={"type": "wav"}
        ),
    }
    update = updated(begin(), patch, OFFER)
    assert [refused.param for refused in update.refusals] == [
        "session.tools[1].name",
        "session.colour",
        "session.audio.input.turn_detection.threshold",
        "session.audio.input.format",
    ]
    assert [tool["name"] for tool in update.session["tools"]] == ["f", "g"]
    assert turn_detection(update.session) == SERVER_VAD | {"silence_duration_ms": 900}


def test_null_for_what_cannot_be_null_leaves_it() -> None:
    nothing = dict.fromkeys(("instructions", "tools", "tool_choice", "audio", "output_modalities"))
    session = accepted(begin(), nothing | {"include": None})
    assert session == begin()


def test_no_session_at_all_is_refused() -> None:
    with pytest.raises(Refused):
        updated(begin(), [], OFFER)


SAMPLES: dict[str, Any] = {  # by the last part of a field's name; what the walk cannot make up
    "format": {"type": "audio/pcm", "rate": 24_000},
    "truncation": {"type": "retention_ratio", "retention_ratio": 0.5},
    "prompt": {"id": "p", "version": "1", "variables": {"a": {"type": "input_text", "text": "t"}}},
    "output_modalities": ["text"],
    "voice": "marin",
    "speed": 1.0,
    "threshold": 0.5,
    "retention_ratio": 0.5,
    "strength": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": 6000,
    "max_output_tokens": 100,
    "tool_choice": {"type": "mcp", "server_label": "s"},
    "tools": [TOOL, {"type": "mcp", "server_label": "s", "server_url": "https://x", "name": "n"}],
}


def every_field(model: type[BaseModel]) -> dict[str, Any]:
    """A value for each field that the package's own types know, made up from the types."""
    made = {}
    for name, field in model.model_fields.items():
        text = name == "prompt" and str in get_args(field.annotation)  # of a transcription
        known = name in SAMPLES and not text
        made[name] = SAMPLES[name] if known else a_value(field.annotation)
    return made


def a_value(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return every_field(kind)
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if get_origin(kind) is list:
        return [a_value(get_args(kind)[0])]
    if kind in (str, int, float, bool):
        return {str: "x", int: 1, float: 0.5, bool: True}[kind]
    return a_value(next(each for each in get_args(kind) if each is not type(None)))


def test_every_field_that_the_package_knows_is_taken_and_told_once_if_it_means_nothing() -> None:
    patch = every_field(RealtimeSessionCreateRequest)
    update = updated(begin(), patch, OFFER)
    assert not update.refusals
    STRICT.validate_python(update.session)
    assert {"reasoning", "audio.input.transcription.keywords"} <= set(update.ignored)
    assert update.session["reasoning"] == patch["reasoning"]
    again = updated(update.session, patch, OFFER)
    assert not again.ignored


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
    assert new in refusal({field: "x"}).message


@pytest.mark.parametrize(
    "wrong",
    ["pcm16", {"type": "audio/pcm", "rate": 16_000}, {"type": "audio/opus"}, {"type": []}],
)
def test_a_wrong_format_is_told_the_right_ones(wrong: Any) -> None:
    refused = refusal(audio_in(format=wrong))
    assert refused.code == "unsupported_audio_format"
    assert "audio/pcma" in refused.message


def test_the_voice_that_was_heard_stays_and_the_rest_takes_effect() -> None:
    patch = {"instructions": "New."} | audio_out(voice=ALIASES[3], speed=1.1)
    assert refusal(patch, spoke=True).param == "session.audio.output.voice"
    session = updated(begin(), patch, OFFER, spoke=True).session
    assert session["instructions"] == "New."
    assert session["audio"]["output"]["speed"] == 1.1


def test_server_vad_ends_a_turn_after_any_pause_of_that_length() -> None:
    patch = audio_in(
        turn_detection={"threshold": 0.6, "prefix_padding_ms": 200, "silence_duration_ms": 700}
    )
    turn = rules(accepted(begin(), patch, OFFER))
    assert (turn.threshold, turn.preroll_ms) == (0.6, 200)
    assert turn.silence_ms == turn.silence_long_ms == 700
    assert turn.eager_ms <= 700


def test_eagerness_chooses_the_longest_wait_and_how_many_may_be_cut_off() -> None:
    def wait(eagerness: str) -> tuple[int, float]:
        patch = audio_in(turn_detection={"type": "semantic_vad", "eagerness": eagerness})
        turn = rules(accepted(begin(), patch, OFFER))
        assert turn.silence_ms <= turn.silence_long_ms
        return turn.silence_long_ms, -turn.false_cutoffs

    assert wait("low") > wait("medium") == wait("auto") > wait("high")


def test_without_detection_the_client_holds_the_key() -> None:
    session = accepted(begin(), audio_in(turn_detection=None), OFFER)
    assert rules(session).push_to_talk
    assert not rules(session).barge_in
    assert configuration(session, OFFER).replies is False


def test_speech_may_interrupt_unless_the_client_forbids_it() -> None:
    assert rules(begin()).barge_in
    forbidden = audio_in(turn_detection={"interrupt_response": False})
    assert not rules(accepted(begin(), forbidden, OFFER)).barge_in


def test_tools_are_what_the_choice_leaves_of_them() -> None:
    other = TOOL | {"name": "g"}

    def names(choice: Any) -> list[str]:
        session = accepted(begin(), {"tools": [TOOL, other], "tool_choice": choice}, OFFER)
        return [tool.name for tool in tools_of(session)]

    assert names("auto") == names("required") == ["f", "g"]
    assert names("none") == []
    assert names({"type": "function", "name": "g"}) == ["g"]
