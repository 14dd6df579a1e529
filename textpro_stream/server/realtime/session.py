"""The session object: its defaults, how it is updated, and what it means for the conversation.

An update is a deep merge: a missing key keeps, null clears where null is allowed. A field that
cannot be is named, and everything else in the update counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from textpro_stream.commands import Configure
from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.contracts import Tool
from textpro_stream.server.fields import Json, Refused
from textpro_stream.server.realtime.rules import (
    DEFAULT_VOICE,
    SERVER_VAD,
    Offer,
    Partly,
    merging,
    output_rules,
    session_rules,
    stored,
)

# Fields that the protocol knows and that mean nothing here; a client that sets one is told once.
MEANINGLESS = (
    ("include",),
    ("tracing",),
    ("prompt",),
    ("reasoning",),
    ("audio", "input", "noise_reduction"),
    *(("audio", "input", "transcription", key) for key in ("language", "languages")),
    *(("audio", "input", "transcription", key) for key in ("prompt", "keywords", "delay")),
)
# By eagerness: the longest wait, and the share of pauses that may be taken for an end; else as the
# server is set up. The head waits some 0.9 s on average at a tenth, 0.4 s at three (note 0014).
PATIENCE_MS = {"low": 4000, "high": 800}
FALSE_CUTOFFS = {"low": 0.1, "high": 0.3}


def opened(offer: Offer, session_id: str, *, transcription: bool, expires_at: int) -> Json:
    """The session as it begins."""
    audio_in: Json = {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "transcription": {"model": offer.asr},
        "noise_reduction": None,
        "turn_detection": dict(SERVER_VAD),
    }
    session: Json = {
        "type": "transcription" if transcription else "realtime",
        "object": f"realtime.{'transcription_' if transcription else ''}session",
        "id": session_id,
        "expires_at": expires_at,
        "include": None,
        "textpro": {"events": False, "ignored": []},
    }
    if transcription:
        return session | {"audio": {"input": audio_in}}
    return session | {
        "model": offer.model,
        "output_modalities": ["audio" if offer.voice else "text"],
        "instructions": offer.llm.system_prompt,
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "max_output_tokens": "inf",
        "truncation": "auto",
        "tracing": None,
        "prompt": None,
        "audio": {
            "input": audio_in,
            "output": {
                "format": {"type": "audio/pcm", "rate": 24_000},
                "voice": DEFAULT_VOICE,
                "speed": 1.0,
            },
        },
    }


@dataclass(frozen=True, slots=True)
class Update:
    """What became of a `session.update`."""

    session: Json
    refusals: tuple[Refused, ...] = ()  # fields that stay as they were
    ignored: tuple[str, ...] = ()  # fields set for the first time that mean nothing here


def updated(session: Json, patch: Any, offer: Offer, *, spoke: bool = False) -> Update:
    """The session after a `session.update`; the one given is left as it was.

    Args:
        session: present value.
        patch: what the client sent as `session`.
        offer: what there is.
        spoke: audio was sent: the voice stays.

    Raises:
        Refused: it is no object.
    """
    refusals: list[Refused] = []
    try:
        value: Json = merging(session_rules(session, offer))(session, patch, "session")
    except Partly as partly:
        value, refusals = partly.value, partly.refusals
    if spoke and value["audio"]["output"]["voice"] != session["audio"]["output"]["voice"]:
        value["audio"]["output"]["voice"] = session["audio"]["output"]["voice"]
        refusals.append(_late_voice("session"))
    told = session["textpro"]["ignored"]
    ignored = [name for name in _meaningless(patch) if name not in told]
    value["textpro"]["ignored"] = [*told, *ignored]
    return Update(value, tuple(refusals), tuple(ignored))


def _meaningless(patch: Json) -> Iterator[str]:
    for path in MEANINGLESS:
        value: Any = patch
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            yield ".".join(path)
    tools = patch.get("tools")
    listed = tools if isinstance(tools, list) else []
    if any(isinstance(tool, dict) and tool.get("type") == "mcp" for tool in listed):
        yield "tools of type mcp"


def _late_voice(where: str) -> Refused:
    path = f"{where}.audio.output.voice"
    return Refused("invalid_value", f"{path}: give the same as before, once audio was sent", path)


def response_settings(session: Json, patch: Any, offer: Offer, *, spoke: bool) -> Json:
    """The session's settings as one `response.create` wants them.

    Raises:
        Refused: something in it cannot be.
    """
    keys = ("instructions", "output_modalities", "tools", "tool_choice", "max_output_tokens")
    present = {key: session[key] for key in keys} | {
        "audio": {"output": session["audio"]["output"]},
        "parallel_tool_calls": True,
    }
    rules = session_rules(session, offer)
    allowed = {key: rules[key] for key in keys} | {
        "audio": merging({"output": merging(output_rules(offer))}),
        "prompt": stored,
        "reasoning": stored,
        "parallel_tool_calls": stored,
    }
    value: Json = merging(allowed)(present, patch, "response")
    if spoke and value["audio"]["output"]["voice"] != session["audio"]["output"]["voice"]:
        raise _late_voice("response")
    return value


def turn_detection(session: Json) -> Json | None:
    """How turns end; None: the client says so."""
    value: Json | None = _input(session)["turn_detection"]
    return value


def configuration(session: Json, offer: Offer) -> Configure:
    """The session in the conversation's terms."""
    detection = turn_detection(session)
    talks = session["type"] == "realtime"
    turn = turn_options(detection, offer.turn)
    return Configure(
        turn=replace(turn, barge_in=speech_interrupts(session)),
        replies=bool(detection and talks and detection["create_response"]),
        voice=talks and session["output_modalities"] == ["audio"],
        llm=llm_options(session, offer.llm) if talks else None,
        tools=tools_of(session) if talks else None,
        speed=float(session["audio"]["output"]["speed"]) if talks else None,
    )


def speech_interrupts(session: Json) -> bool:
    """Speech stops a response."""
    detection = turn_detection(session)
    talks = session["type"] == "realtime"
    return bool(detection and talks and detection["interrupt_response"])


def turn_options(detection: Json | None, base: TurnOptions) -> TurnOptions:
    """`turn_detection` in our own terms."""
    if detection is None:
        return replace(base, push_to_talk=True)
    if detection["type"] == "server_vad":
        silence_ms = detection["silence_duration_ms"]
        return replace(
            base,
            push_to_talk=False,
            threshold=float(detection["threshold"]),
            # More would hear the end of the turn before.
            preroll_ms=min(detection["prefix_padding_ms"], silence_ms),
            eager_ms=min(base.eager_ms, silence_ms),
            silence_ms=silence_ms,
            silence_long_ms=silence_ms,
        )
    longest = PATIENCE_MS.get(detection["eagerness"], base.silence_long_ms)
    return replace(
        base,
        push_to_talk=False,
        silence_ms=min(base.silence_ms, longest),
        silence_long_ms=longest,
        false_cutoffs=FALSE_CUTOFFS.get(detection["eagerness"], base.false_cutoffs),
    )


def llm_options(settings: Json, base: LlmOptions) -> LlmOptions:
    """Instructions and length in our own terms; "inf" is the server's own limit."""
    return replace(
        base, system_prompt=settings["instructions"], max_tokens=max_tokens(settings, base)
    )


def max_tokens(settings: Json, base: LlmOptions) -> int:
    """Tokens of a reply at most; half of the context is left to what it answers."""
    wanted = settings["max_output_tokens"]
    return base.max_tokens if wanted == "inf" else min(int(wanted), base.context // 2)


def tools_of(settings: Json) -> tuple[Tool, ...]:
    """The functions that the model may ask for: what `tool_choice` leaves of `tools`."""
    choice = settings["tool_choice"]
    wanted = choice.get("name") if isinstance(choice, dict) else None
    return tuple(
        Tool(tool["name"], tool.get("description") or "", json.dumps(tool["parameters"]))
        for tool in settings["tools"]
        if choice != "none" and tool["type"] == "function" and wanted in (None, tool["name"])
    )


def _input(session: Json) -> Json:
    value: Json = session["audio"]["input"]
    return value
