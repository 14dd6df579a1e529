"""What each field of a session may hold: rules that merge a new value into the present one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NoReturn

from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.server.fields import Json, Refused
from textpro_stream.server.realtime.codec import RATES

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
MAX_INSTRUCTIONS = 32_768  # characters
MAX_TOOLS = 64
MAX_TOOL_BYTES = 16_384  # of one tool's parameters


Rule = Callable[[Any, Any, str], Any]  # (present value, new value, path) -> value; may refuse


class Partly(Refused):
    """Something in an object cannot be; the rest of it can.

    Args:
        value: with all that can be.
        refusals: of the rest, each of one field; at least one.
    """

    def __init__(self, value: Any, refusals: list[Refused]) -> None:
        first = refusals[0]
        super().__init__(first.code, first.message, first.param)
        self.value, self.refusals = value, refusals


@dataclass(frozen=True, slots=True)
class Offer:
    """What the server behind a session has.

    Args:
        model: name of the language model.
        asr: name of the recognizer.
        voice: name of the voice; None if it has none.
        turn: how turns end where the client leaves that to us.
        llm: instructions and limits where the client leaves those to us.
        knows_tools: the language model is shown the functions that it may ask for.
    """

    model: str
    asr: str
    voice: str | None
    turn: TurnOptions
    llm: LlmOptions
    knows_tools: bool = True


def session_rules(session: Json, offer: Offer) -> dict[str, Rule]:
    """Of `session.update`."""
    audio_in = merging(
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
        "include": stored,
        "textpro": merging({"events": _boolean, "ignored": _same}),
    }
    if session["type"] == "transcription":
        return shared | {"audio": merging({"input": audio_in})}
    return shared | {
        "model": _model,
        "instructions": _text,
        "output_modalities": _modalities(offer),
        "tools": _tools,
        "tool_choice": _tool_choice,
        "parallel_tool_calls": _boolean,
        "max_output_tokens": _max_output_tokens,
        "truncation": _truncation,
        "tracing": stored,
        "prompt": _nullable_object,
        "reasoning": _nullable_object,
        "audio": merging({"input": audio_in, "output": merging(output_rules(offer))}),
    }


def output_rules(offer: Offer) -> dict[str, Rule]:
    """Of `audio.output`, in a session or a response."""
    return {"format": _format, "voice": _voice(offer), "speed": _number(0.25, 1.5)}


def merging(rules: Mapping[str, Rule]) -> Rule:
    """Merge an object key by key. Null for what has none leaves it as it is.

    Raises:
        Partly: some keys cannot be; the others are merged.
    """

    def rule(present: Any, new: Any, path: str) -> Any:
        if not isinstance(new, dict):
            refuse(path, "an object")
        merged = deepcopy(present) if isinstance(present, dict) else {}
        refusals: list[Refused] = []
        for key, value in new.items():
            where = f"{path}.{key}"
            try:
                if key not in rules:
                    raise _unknown(key, path, rules)
                merged[key] = rules[key](merged.get(key), value, where)
            except Partly as partly:
                merged[key] = partly.value
                refusals += partly.refusals
            except Refused as refused:
                if value is not None or key not in rules:
                    refusals.append(refused)
        if refusals:
            raise Partly(merged, refusals)
        return merged

    return rule


def whole(rules: Mapping[str, Rule]) -> Rule:
    """Merge an object that is of no use without one of its keys: all of it or nothing."""
    merge = merging(rules)

    def rule(present: Any, new: Any, path: str) -> Any:
        try:
            return merge(present, new, path)
        except Partly as partly:
            raise partly.refusals[0] from None

    return rule


def _unknown(key: str, path: str, rules: Mapping[str, Rule]) -> Refused:
    where = f"{path}.{key}"
    hint = NEW.get(key) if path in ("session", "response") else None
    return Refused(
        "invalid_value",
        f"{where} belongs to the beta protocol; use {hint}"
        if hint
        else f"{where} is unknown; known are {', '.join(rules)}",
        where,
    )


def refuse(path: str, expected: str) -> NoReturn:
    """A field holds something else than expected."""
    raise Refused("invalid_value", f"{path}: give {expected}", path)


def _same(present: Any, new: Any, path: str) -> Any:
    if new != present:
        refuse(path, f"{present!r}: it cannot change")
    return present


def stored(_present: Any, new: Any, path: str) -> Any:
    """Of no meaning here; kept for the client to read back, in a shape its types know."""
    name = path.rpartition(".")[2]
    logprobs = "item.input_audio_transcription.logprobs"
    fits = {
        "include": isinstance(new, list) and all(each == logprobs for each in new),
        "tracing": new == "auto" or isinstance(new, dict),
        "parallel_tool_calls": isinstance(new, bool),
    }.get(name, isinstance(new, dict))
    if new is not None and not fits:
        refuse(path, {"include": f'["{logprobs}"]', "tracing": '"auto" or null'}.get(name, "null"))
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
        "reasoning": {"effort": _text_or_null},
    }
    value = whole(known[name])(present, new, path)
    if name == "prompt" and "id" not in value:
        refuse(f"{path}.id", "the id of the prompt")
    return value


def _plain(_present: Any, new: Any, path: str) -> Any:
    def fits(value: Any) -> bool:
        if isinstance(value, dict):
            return value.keys() == {"type", "text"} and value["type"] == "input_text"
        return isinstance(value, str)

    if new is not None and not (isinstance(new, dict) and all(map(fits, new.values()))):
        refuse(path, "an object of strings")
    return new


def _transcription(present: Any, new: Any, path: str) -> Any:
    if new is None:
        return None
    texts = dict.fromkeys(("model", "language", "prompt", "delay"), _text_or_null)
    lists = dict.fromkeys(("keywords", "languages"), _texts_or_null)
    return merging({**texts, **lists})(present, new, path)


def _model(present: Any, new: Any, path: str) -> Any:
    """Any name will do; the session goes on saying which one it is."""
    _text(present, new, path)
    return present


def _text(_present: Any, new: Any, path: str) -> Any:
    if not isinstance(new, str) or len(new) > MAX_INSTRUCTIONS:
        refuse(path, f"a string of at most {MAX_INSTRUCTIONS} characters")
    return new


def _text_or_null(present: Any, new: Any, path: str) -> Any:
    return None if new is None else _text(present, new, path)


def _texts_or_null(_present: Any, new: Any, path: str) -> Any:
    if new is not None and not (isinstance(new, list) and all(isinstance(x, str) for x in new)):
        refuse(path, "a list of strings")
    return new


def _boolean(_present: Any, new: Any, path: str) -> Any:
    if not isinstance(new, bool):
        refuse(path, "true or false")
    return new


def _one_of(*choices: str) -> Rule:
    def rule(_present: Any, new: Any, path: str) -> Any:
        if new not in choices:
            refuse(path, "one of " + ", ".join(choices))
        return new

    return rule


def _number(low: float, high: float, *, whole: bool = False) -> Rule:
    kinds = (int,) if whole else (int, float)

    def rule(_present: Any, new: Any, path: str) -> Any:
        if isinstance(new, bool) or not isinstance(new, kinds) or not low <= new <= high:
            refuse(path, f"{'an integer' if whole else 'a number'} from {low} to {high}")
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
        refuse(path, "an object or null")
    kind = new.get("type")
    if kind not in ("server_vad", "semantic_vad"):  # missing, or refused below
        kind = (present or SERVER_VAD)["type"]
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
    return merging(rules)(start, new, path)


def _idle(present: Any, new: Any, path: str) -> Any:
    return None if new is None else _number(1000, 60_000, whole=True)(present, new, path)


def _modalities(offer: Offer) -> Rule:
    def rule(_present: Any, new: Any, path: str) -> Any:
        if new == ["audio"] and offer.voice is None:
            refuse(path, '["text"]: this server has no voice')
        if new not in (["audio"], ["text"]):
            refuse(path, '["audio"] (with its transcript) or ["text"]')
        return new

    return rule


def _voice(offer: Offer) -> Rule:
    def rule(_present: Any, new: Any, path: str) -> Any:
        name = new.get("id") if isinstance(new, dict) else new
        known = (*ALIASES, *((offer.voice,) if offer.voice else ()))
        if name not in known:
            refuse(path, "one of " + ", ".join(known) + " (all are this server's one voice)")
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
        "token_limits": merging({"post_instructions": _number(0, 1_000_000, whole=True)}),
    }
    value = whole(rules)({}, new, path)
    if not {"type", "retention_ratio"} <= value.keys():
        refuse(path, '"auto", "disabled" or {type: retention_ratio, retention_ratio: 0 to 1}')
    return value


def _tools(_present: Any, new: Any, path: str) -> Any:
    if not isinstance(new, list) or len(new) > MAX_TOOLS:
        refuse(path, f"a list of at most {MAX_TOOLS} functions")
    tools: list[Json] = []
    refusals: list[Refused] = []
    for i, each in enumerate(new):
        try:
            tool = _tool(each, f"{path}[{i}]")
            if any(tool.get("name", each) == other.get("name") for other in tools):
                refuse(f"{path}[{i}].name", "a name that no function before it has")
            tools.append(tool)
        except Refused as refused:
            refusals.append(refused)
    if refusals:
        raise Partly(tools, refusals)
    return tools


def _tool(new: Any, path: str) -> Json:
    if isinstance(new, dict) and new.get("type") == "mcp":
        return _foreign_tool(new, path)
    rules: dict[str, Rule] = {
        "type": _one_of("function"),
        "name": _text,
        "description": _text_or_null,
        "parameters": _schema,
        "strict": _boolean,
    }
    tool: Json = whole(rules)({"type": "function", "parameters": {"type": "object"}}, new, path)
    if not tool.get("name"):
        raise Refused("missing_field", f"{path}.name is missing", f"{path}.name")
    tool.pop("strict", None)  # no part of this protocol, yet sent by clients of its siblings
    return tool


def _foreign_tool(new: Json, path: str) -> Json:
    """Of another server: kept for the client to read back, and not called."""
    if not isinstance(new.get("server_label"), str):
        raise Refused("missing_field", f"{path}.server_label is missing", f"{path}.server_label")
    if len(json.dumps(new)) > MAX_TOOL_BYTES:
        refuse(path, f"at most {MAX_TOOL_BYTES} bytes")
    return {key: value for key, value in new.items() if key not in ("authorization", "headers")}


def _schema(_present: Any, new: Any, path: str) -> Any:
    if new is None:
        return {"type": "object"}
    if not isinstance(new, dict) or len(json.dumps(new)) > MAX_TOOL_BYTES:
        refuse(path, f"a JSON Schema object of at most {MAX_TOOL_BYTES} bytes")
    return new


def _tool_choice(_present: Any, new: Any, path: str) -> Any:
    if new in ("auto", "none", "required"):
        return new
    if isinstance(new, dict) and new.get("type") == "mcp" and "server_label" in new:
        known = {"type": str, "server_label": str, "name": str}
        if all(isinstance(new[key], known.get(key, ())) for key in new if new[key] is not None):
            return new
    name = new.get("name") if isinstance(new, dict) and new.get("type") == "function" else None
    if not isinstance(name, str):
        refuse(path, '"auto", "none", "required" or {type: function, name: …}')
    return {"type": "function", "name": name}
