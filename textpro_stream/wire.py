"""Events as JSON lines: a pure function from an event to one object.

The names and fields are an interface (README, "JSON lines"); adding is fine, changing is not.
Times are seconds: `at_s` of input audio, `wall_s` since the start. Numbers that JSON cannot hold
(an infinite loudness) become null.
"""

from __future__ import annotations

import json
import math
from typing import assert_never

from textpro_stream.contracts import ProsodyWindow, TokenSpan, seconds
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
    TurnEager,
    TurnEnded,
    TurnLatency,
    TurnResumed,
    WordsCommitted,
)

Json = dict[str, object]


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
        case ProsodyUpdated(window=window):
            return "prosody.window", _window(window, vectors=vectors)
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
    if vectors:
        fields["embedding"] = [round(float(value), 6) for value in window.embedding]
    return fields


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
