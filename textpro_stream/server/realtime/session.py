"""The session object: its defaults, how it is updated, and what it means for the conversation.

An update is a deep merge: a missing key keeps, null clears where null is allowed. It is checked
whole before anything of it counts, so a refused update has changed nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.contracts import Tool
from textpro_stream.server.realtime.codec import RATES
from textpro_stream.server.realtime.incoming import Json, Refused

# The names under which the hosted service offers voices: clients send one as a matter of course.
ALIASES = (
    "alloy",
    "ash",
    "ballad",
    "cedar",
    "coral",
    "echo",
    "fable",
    "marin",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
)
DEFAULT_VOICE = "alloy"
NEW = {  # fields of the beta protocol -> where their meaning lives now
    "modalities": "session.output_modalities",
    "input_audio_format": "session.audio.input.format",
    "output_audio_format": "session.audio.output.format",
    "input_audio_transcription": "session.audio.input.transcription",
    "input_audio_noise_reduction": "session.audio.input.noise_reduction",
    "turn_detection": "session.audio.input.turn_detection",
    "voice": "session.audio.output.voice",
    "speed": "session.audio.output.speed",
    "max_response_output_tokens": "session.max_output_tokens",
    "temperature": "nothing: this version of the protocol has no temperature",
}
SERVER_VAD: Json = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
SEMANTIC_VAD: Json = {
    "type": "semantic_vad",
    "eagerness": "auto",
    "create_response": True,
    "interrupt_response": True,
}
PATIENCE_MS = {"low": 4000, "high": 800}  # longest wait by eagerness; else as the server is set up
MAX_INSTRUCTIONS = 32_768  # characters
MAX_TOOLS = 64
MAX_TOOL_BYTES = 16_384  # of one tool's parameters

Rule = Callable[[Any, Any, str], Any]  # (present value, new value, path) -> value; may refuse


@dataclass(frozen=True, slots=True)
class Offer:
    """What the server behind a session has.

    Args:
        model: name of the language model.
        asr: name of the recognizer.
        voice: name of the voice; None if it has none.
        turn: how turns end where the client leaves that to us.
        llm: instructions and limits where the client leaves those to us.
    """

    model: str
    asr: str
    voice: str | None
    turn: TurnOptions
    llm: LlmOptions


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
        "textpro": {"events": False},
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


def updated(
    session: Json, patch: Any, offer: Offer, *, heard_audio: bool = False, spoke: bool = False
) -> Json:
    """The session after a `session.update`; the one given is left as it was.

    Args:
        session: present value.
        patch: what the client sent as `session`.
        offer: what there is.
        heard_audio: audio was appended: the input format stays.
        spoke: audio was sent: the voice stays.

    Raises:
        Refused: something in it cannot be.
    """
    value: Json = _object(_rules(session, offer))(session, patch, "session")
    if heard_audio and _input(value)["format"] != _input(session)["format"]:
        _refuse("session.audio.input.format", "the same as before, once audio was appended")
    if spoke and value["audio"]["output"]["voice"] != session["audio"]["output"]["voice"]:
        _refuse("session.audio.output.voice", "the same as before, once audio was sent")
    return value


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
    rules = _rules(session, offer)
    allowed = {key: rules[key] for key in keys} | {
        "audio": _object({"output": _object(_output_rules(offer))}),
        "prompt": _stored,
        "reasoning": _stored,
        "parallel_tool_calls": _stored,
    }
    value: Json = _object(allowed)(present, patch, "response")
    if spoke and value["audio"]["output"]["voice"] != session["audio"]["output"]["voice"]:
        _refuse("response.audio.output.voice", "the same as before, once audio was sent")
    return value


def turn_detection(session: Json) -> Json | None:
    """How turns end; None: the client says so."""
    value: Json | None = _input(session)["turn_detection"]
    return value


def conversation_settings(session: Json, offer: Offer) -> Json:
    """The session as arguments of `Conversation.configure`."""
    detection = turn_detection(session)
    talks = session["type"] == "realtime"
    settings: Json = {
        "turn": turn_options(detection, offer.turn),
        "replies": bool(detection and talks and detection["create_response"]),
        "interruptible": bool(detection and talks and detection["interrupt_response"]),
        "voice": talks and session["output_modalities"] == ["audio"],
    }
    if talks:
        settings |= {
            "llm": llm_options(session, offer.llm),
            "tools": tools_of(session),
            "speed": float(session["audio"]["output"]["speed"]),
        }
    return settings


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
    wanted = choice["name"] if isinstance(choice, dict) else None
    return tuple(
        Tool(tool["name"], tool.get("description") or "", json.dumps(tool["parameters"]))
        for tool in settings["tools"]
        if choice != "none" and wanted in (None, tool["name"])
    )


def _input(session: Json) -> Json:
    value: Json = session["audio"]["input"]
    return value


def _rules(session: Json, offer: Offer) -> dict[str, Rule]:
    audio_in = _object(
        {
            "format": _format,
            "turn_detection": _turn_detection,
            "transcription": _transcription,
            "noise_reduction": _nullable_object,
        }
    )
    shared: dict[str, Rule] = {
        "type": _same,
        "id": _same,
        "object": _same,
        "expires_at": _same,
        "include": _stored,
        "textpro": _object({"events": _boolean}),
    }
    if session["type"] == "transcription":
        return shared | {"audio": _object({"input": audio_in})}
    return shared | {
        "model": _model,
        "instructions": _text,
        "output_modalities": _modalities(offer),
        "tools": _tools,
        "tool_choice": _tool_choice,
        "parallel_tool_calls": _boolean,
        "max_output_tokens": _max_output_tokens,
        "truncation": _truncation,
        "tracing": _stored,
        "prompt": _nullable_object,
        "reasoning": _nullable_object,
        "audio": _object({"input": audio_in, "output": _object(_output_rules(offer))}),
    }


def _output_rules(offer: Offer) -> dict[str, Rule]:
    return {"format": _format, "voice": _voice(offer), "speed": _number(0.25, 1.5)}


def _object(rules: Mapping[str, Rule]) -> Rule:
    """Merge an object key by key."""

    def rule(present: Any, new: Any, path: str) -> Any:
        if not isinstance(new, dict):
            _refuse(path, "an object")
        merged = deepcopy(present) if isinstance(present, dict) else {}
        for key, value in new.items():
            where = f"{path}.{key}"
            if key not in rules:
                hint = NEW.get(key) if path in ("session", "response") else None
                raise Refused(
                    "invalid_value",
                    f"{where} belongs to the beta protocol; use {hint}"
                    if hint
                    else f"{where} is unknown; known are {', '.join(rules)}",
                    where,
                )
            merged[key] = rules[key](merged.get(key), value, where)
        return merged

    return rule


def _refuse(path: str, expected: str) -> NoReturn:
    raise Refused("invalid_value", f"{path}: give {expected}", path)


def _same(present: Any, new: Any, path: str) -> Any:
    if new != present:
        _refuse(path, f"{present!r}: it cannot change")
    return present


def _stored(_present: Any, new: Any, path: str) -> Any:
    """Of no meaning here; kept for the client to read back, in a shape its types know."""
    name = path.rpartition(".")[2]
    logprobs = "item.input_audio_transcription.logprobs"
    fits = {
        "include": isinstance(new, list) and all(each == logprobs for each in new),
        "tracing": new == "auto" or isinstance(new, dict),
        "parallel_tool_calls": isinstance(new, bool),
    }.get(name, isinstance(new, dict))
    if new is not None and not fits:
        _refuse(path, {"include": f'["{logprobs}"]', "tracing": '"auto" or null'}.get(name, "null"))
    return new


def _nullable_object(present: Any, new: Any, path: str) -> Any:
    """Kept in the shape that the client's types know, of no meaning here."""
    if new is None:
        return None
    name = path.rpartition(".")[2]
    known: dict[str, dict[str, Rule]] = {
        "noise_reduction": {
            "type": _one_of("near_field", "far_field"),
            "strength": _number(0, 1),
        },
        "prompt": {"id": _text, "version": _text, "variables": _plain},
        "reasoning": {"effort": _one_of("minimal", "low", "medium", "high", "xhigh")},
    }
    value = _object(known[name])(present, new, path)
    if name == "prompt" and "id" not in value:
        _refuse(f"{path}.id", "the id of the prompt")
    return value


def _plain(_present: Any, new: Any, path: str) -> Any:
    if new is not None and not (
        isinstance(new, dict) and all(isinstance(each, str) for each in new.values())
    ):
        _refuse(path, "an object of strings")
    return new


def _transcription(present: Any, new: Any, path: str) -> Any:
    if new is None:
        return None
    keys = ("model", "language", "prompt")
    return _object(dict.fromkeys(keys, _text_or_null))(present, new, path)


def _model(present: Any, new: Any, path: str) -> Any:
    """Any name will do; the session goes on saying which one it is."""
    _text(present, new, path)
    return present


def _text(_present: Any, new: Any, path: str) -> Any:
    if not isinstance(new, str) or len(new) > MAX_INSTRUCTIONS:
        _refuse(path, f"a string of at most {MAX_INSTRUCTIONS} characters")
    return new


def _text_or_null(present: Any, new: Any, path: str) -> Any:
    return None if new is None else _text(present, new, path)


def _boolean(_present: Any, new: Any, path: str) -> Any:
    if not isinstance(new, bool):
        _refuse(path, "true or false")
    return new


def _one_of(*choices: str) -> Rule:
    def rule(_present: Any, new: Any, path: str) -> Any:
        if new not in choices:
            _refuse(path, "one of " + ", ".join(choices))
        return new

    return rule


def _number(low: float, high: float, *, whole: bool = False) -> Rule:
    kinds = (int,) if whole else (int, float)

    def rule(_present: Any, new: Any, path: str) -> Any:
        if isinstance(new, bool) or not isinstance(new, kinds) or not low <= new <= high:
            _refuse(path, f"{'an integer' if whole else 'a number'} from {low} to {high}")
        return new

    return rule


def _format(_present: Any, new: Any, path: str) -> Any:
    kind = new.get("type") if isinstance(new, dict) else new
    rate = new.get("rate") if isinstance(new, dict) else None
    if kind in list(RATES) and isinstance(new, dict) and rate in (None, RATES[kind]):
        return {"type": kind, "rate": 24_000} if kind == "audio/pcm" else {"type": kind}
    raise Refused(
        "unsupported_audio_format",
        f"{path}: give {{type: audio/pcm, rate: 24000}} (16 bit, mono, little-endian),"
        " {type: audio/pcmu} or {type: audio/pcma}",
        path,
    )


def _turn_detection(present: Any, new: Any, path: str) -> Any:
    if new is None:
        return None
    if not isinstance(new, dict):
        _refuse(path, "an object or null")
    kind = new.get("type", (present or SERVER_VAD)["type"])
    flags: dict[str, Rule] = {"create_response": _boolean, "interrupt_response": _boolean}
    if kind == "semantic_vad":
        defaults = SEMANTIC_VAD
        rules = flags | {"eagerness": _one_of("low", "medium", "high", "auto")}
    else:
        defaults = SERVER_VAD
        rules = flags | {
            "threshold": _number(0, 1),
            "prefix_padding_ms": _number(0, 5000, whole=True),
            "silence_duration_ms": _number(40, 10_000, whole=True),
            "idle_timeout_ms": _idle,
        }
    kept = {key: value for key, value in (present or {}).items() if key in defaults}
    start = defaults | kept | {"type": kind}
    rules["type"] = _one_of("server_vad", "semantic_vad")
    return _object(rules)(start, new, path)


def _idle(present: Any, new: Any, path: str) -> Any:
    return None if new is None else _number(1000, 60_000, whole=True)(present, new, path)


def _modalities(offer: Offer) -> Rule:
    def rule(_present: Any, new: Any, path: str) -> Any:
        if new == ["audio"] and offer.voice is None:
            _refuse(path, '["text"]: this server has no voice')
        if new not in (["audio"], ["text"]):
            _refuse(path, '["audio"] (with its transcript) or ["text"]')
        return new

    return rule


def _voice(offer: Offer) -> Rule:
    def rule(_present: Any, new: Any, path: str) -> Any:
        name = new.get("id") if isinstance(new, dict) else new
        known = (*ALIASES, *((offer.voice,) if offer.voice else ()))
        if name not in known:
            _refuse(path, "one of " + ", ".join(known) + " (all are this server's one voice)")
        return name

    return rule


def _max_output_tokens(_present: Any, new: Any, path: str) -> Any:
    return "inf" if new in ("inf", None) else _number(1, 4096, whole=True)(None, new, path)


def _truncation(_present: Any, new: Any, path: str) -> Any:
    """Whole turns are dropped, oldest first, whatever is asked: that is "auto"."""
    if new in ("auto", "disabled"):
        return new
    rules: dict[str, Rule] = {
        "type": _one_of("retention_ratio"),
        "retention_ratio": _number(0, 1),
        "token_limits": _object({"post_instructions": _number(0, 1_000_000, whole=True)}),
    }
    value = _object(rules)({}, new, path)
    if not {"type", "retention_ratio"} <= value.keys():
        _refuse(path, '"auto", "disabled" or {type: retention_ratio, retention_ratio: 0 to 1}')
    return value


def _tools(_present: Any, new: Any, path: str) -> Any:
    if not isinstance(new, list) or len(new) > MAX_TOOLS:
        _refuse(path, f"a list of at most {MAX_TOOLS} functions")
    tools = [_tool(each, f"{path}[{i}]") for i, each in enumerate(new)]
    if len({tool["name"] for tool in tools}) < len(tools):
        _refuse(path, "functions with different names")
    return tools


def _tool(new: Any, path: str) -> Json:
    rules: dict[str, Rule] = {
        "type": _one_of("function"),
        "name": _text,
        "description": _text_or_null,
        "parameters": _schema,
        "strict": _boolean,
    }
    tool: Json = _object(rules)({"type": "function", "parameters": {"type": "object"}}, new, path)
    if not tool.get("name"):
        raise Refused("missing_field", f"{path}.name is missing", f"{path}.name")
    tool.pop("strict", None)  # no part of this protocol, yet sent by clients of its siblings
    return tool


def _schema(_present: Any, new: Any, path: str) -> Any:
    if new is None:
        return {"type": "object"}
    if not isinstance(new, dict) or len(json.dumps(new)) > MAX_TOOL_BYTES:
        _refuse(path, f"a JSON Schema object of at most {MAX_TOOL_BYTES} bytes")
    return new


def _tool_choice(_present: Any, new: Any, path: str) -> Any:
    if new in ("auto", "none", "required"):
        return new
    name = new.get("name") if isinstance(new, dict) and new.get("type") == "function" else None
    if not isinstance(name, str):
        _refuse(path, '"auto", "none", "required" or {type: function, name: …}')
    return {"type": "function", "name": name}
