"""Events as JSON lines, and commands as JSON objects and back: pure functions.

The names and fields are an interface (docs/events.md); adding is fine, changing is not.
Times are seconds: `at_s` of input audio, `wall_s` since the start. Numbers that JSON cannot hold
(an infinite loudness) become null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, Literal, assert_never, get_args, get_origin, get_type_hints

from textpro_stream import commands
from textpro_stream.commands import Command
from textpro_stream.contracts import ProsodyWindow, TokenSpan, ToneReading, seconds
from textpro_stream.errors import WireError
from textpro_stream.events import (
    Event,
    Failed,
    Finished,
    HypothesisChanged,
    ProsodyUpdated,
    ReplyAudio,
    ReplyDucked,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    ToolCalled,
    TranscriptRevised,
    TurnEager,
    TurnEnded,
    TurnLatency,
    TurnResumed,
    TurnTone,
    WordsCommitted,
)

Json = dict[str, object]

# The name of each command on the wire.
COMMANDS: dict[str, type[Command]] = {
    "press": commands.Press,
    "release": commands.Release,
    "clear": commands.Clear,
    "say": commands.Say,
    "respond": commands.Respond,
    "announce": commands.Announce,
    "configure": commands.Configure,
    "add": commands.Add,
    "remove": commands.Remove,
    "truncate": commands.Truncate,
    "rest": commands.Rest,
    "interrupt": commands.Interrupt,
    "played": commands.Played,
    "finish": commands.Finish,
}
_NAMES = {kind: name for name, kind in COMMANDS.items()}
SECRET = "api_key"  # an option of this name is never written


def to_json(event: Event, *, source: str, wall_s: float, vectors: bool = False) -> Json:
    """One event as a JSON object.

    Args:
        event: any event of a conversation.
        source: name of the input, as it was given.
        wall_s: monotonic seconds since the start.
        vectors: include the embedding of prosody windows.
    """
    kind, fields = _fields(event, vectors=vectors)
    head: Json = {
        "type": kind,
        "turn": event.turn,
        "at_s": _time(event.at),
        "wall_s": round(wall_s, 4),
        "source": source,
    }
    return {key: _finite(value) for key, value in (head | fields).items()}


def to_line(event: Event, *, source: str, wall_s: float, vectors: bool = False) -> str:
    """The same as text without a line break."""
    value = to_json(event, source=source, wall_s=wall_s, vectors=vectors)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _fields(event: Event, *, vectors: bool) -> tuple[str, Json]:
    match event:
        case SpeechStarted(speech=speech):
            return "speech.started", {"speech_s": _time(speech)}
        case SpeechStopped(speech=speech):
            return "speech.stopped", {"speech_s": _time(speech)}
        case HypothesisChanged(text=text):
            return "transcript.hypothesis", {"text": text}
        case WordsCommitted(spans=spans):
            return "transcript.committed", {
                "text": event.text,
                "start_s": _time(spans[0].start),
                "end_s": _time(spans[-1].end),
                "tokens": [_token(span) for span in spans],
            }
        case TranscriptRevised(spans=spans):
            return "transcript.revised", {
                "text": event.text,
                "tokens": [_token(span) for span in spans],
            }
        case ProsodyUpdated(window=window):
            return "prosody.window", _window(window, vectors=vectors)
        case TurnTone(tone=tone):
            return "turn.tone", {**_tone(tone), "rising": _rounded(tone.rising)}
        case TurnEager():
            return "turn.eager", {}
        case TurnResumed():
            return "turn.resumed", {}
        case TurnEnded(transcript=transcript, reason=reason):
            return "turn.endpoint", {
                "transcript": transcript,
                "reason": reason,
                "replies": event.replies,
            }
        case ReplyStarted():
            return "reply.started", {}
        case ReplyText(text=text):
            return "reply.delta", {"text": text}
        case ReplyAudio(chunk=chunk):
            return "speech.audio", {
                "start_s": round(chunk.start / chunk.rate_hz, 6),
                "duration_s": round(len(chunk.samples) / chunk.rate_hz, 6),
            }
        case ReplyDucked(ducked=ducked):
            return "reply.ducked", {"ducked": ducked}
        case ToolCalled(call=call):
            return "tool.call", {"name": call.name, "arguments": call.arguments}
        case ReplyGiven(text=text, reason=reason, marks=marks):
            return "reply.given", {"text": text, "reason": reason, "marks": _marks(marks)}
        case ReplyEnded(text=text, reason=reason):
            return "reply.done", {"text": text, "reason": reason}
        case TurnLatency(marks=marks):
            return "turn.latency", _marks(marks)
        case Failed(code=code, message=message):
            return "error", {"code": code, "message": message}
        case Finished():
            return "source.done", {
                "audio_s": _time(event.at),
                "turns": event.turns,
                "words": event.words,
                "cpu_s": round(event.cpu_s, 4),
                "rtf": {name: round(value, 5) for name, value in event.rtf.items()},
                "work": {name: round(value, 4) for name, value in event.work.items()},
            }
        case _:
            assert_never(event)


def _marks(marks: dict[str, float]) -> Json:
    return {name: round(value, 4) for name, value in marks.items()}


def _token(span: TokenSpan) -> Json:
    return {
        "text": span.text,
        "start_s": _time(span.start),
        "end_s": _time(span.end),
        "logprob": round(span.logprob, 4),
    }


def _window(window: ProsodyWindow, *, vectors: bool) -> Json:
    fields: Json = {
        "start_s": _time(window.start),
        "end_s": _time(window.end),
        "n_tokens": window.n_tokens,
        "f0_hz": _rounded(window.f0_hz),
        "f0_semitones": _rounded(window.f0_semitones),
        "energy_dbfs": _rounded(window.energy_dbfs),
        "energy_z": _rounded(window.energy_z),
        "rate_tps": _rounded(window.rate_tps),
    }
    if window.tone is not None:
        fields |= _tone(window.tone)
    if vectors:
        fields["embedding"] = [round(float(value), 6) for value in window.embedding]
    return fields


def _tone(tone: ToneReading) -> Json:
    """What a window can tell as well as a turn."""
    return {
        "arousal": _rounded(tone.arousal),
        "pitch": _rounded(tone.pitch),
        "loudness": _rounded(tone.loudness),
        "pace": _rounded(tone.pace),
        "emotion": {label: round(share, 3) for label, share in tone.emotion.items()},
        "guess": tone.guess,
    }


def _time(samples: int) -> float:
    return round(seconds(samples), 6)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


def _finite(value: object) -> object:
    """The same value with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value


def command_to_json(command: Command) -> Json:
    """A command as one JSON object; what is None is left out."""
    return {"type": _NAMES[type(command)], **value_to_json(command)}


def command_from_json(value: Mapping[str, Any]) -> Command:
    """The command that a JSON object stands for.

    Raises:
        WireError: it stands for none; one line says which field is wrong.
    """
    kind = COMMANDS.get(str(value.get("type")))
    if kind is None:
        known = ", ".join(COMMANDS)
        raise WireError(f"type {str(value.get('type'))[:40]!r} is no command; known are {known}")
    rest = {key: field for key, field in value.items() if key != "type"}
    command: Command = value_from_json(kind, rest, _NAMES[kind])
    return command


def value_to_json(value: Any) -> Json:
    """The fields of a command, or of the options in it."""
    return {
        field.name: _plain(inner)
        for field in fields(value)
        if (inner := getattr(value, field.name)) is not None and field.name != SECRET
    }


def value_from_json(kind: Any, value: Any, where: str) -> Any:
    """The value of a type that JSON stands for.

    Args:
        kind: a dataclass, or the type of a field: str, int, float, bool, a Literal, a tuple of
            one type, or one of these or None.
        value: parsed JSON.
        where: named in the error.

    Raises:
        WireError: it is none.
    """
    if is_dataclass(kind):
        return _dataclass_from_json(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if NoneType in inner:
        if value is None:
            return None
        return value_from_json(next(k for k in inner if k is not NoneType), value, where)
    if origin is Literal:
        if value in inner and not isinstance(value, bool):
            return value
        raise WireError(f"{where}: give one of {', '.join(map(str, inner))}, not {value!r:.40}")
    if origin is tuple:
        if isinstance(value, list):
            return tuple(value_from_json(inner[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    elif kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif type(value) is kind:
        return value
    raise WireError(f"{where}: give {getattr(kind, '__name__', kind)}, not {value!r:.40}")


def _dataclass_from_json(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise WireError(f"{where}: give an object, not {value!r:.40}")
    hints = _hints(kind)
    if unknown := value.keys() - hints.keys():
        raise WireError(f"{where}: there is no {min(unknown)!r:.40}; known are {', '.join(hints)}")
    for field in fields(kind):
        required = field.default is MISSING and field.default_factory is MISSING
        if required and field.name not in value:
            raise WireError(f"{where}: {field.name} is missing")
    return kind(**{k: value_from_json(hints[k], v, f"{where}.{k}") for k, v in value.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return value_to_json(value)
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value
