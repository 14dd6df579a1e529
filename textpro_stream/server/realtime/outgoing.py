"""Server events, built in one place; the core adds their `event_id`.

A content part says "audio" or "text" where the item that holds it says "output_audio" or
"output_text": so the protocol has it.
"""

from __future__ import annotations

import json

from textpro_stream.server.fields import Json, Refused

MAX_PAIRS = 16  # of metadata
MAX_VALUE = 512  # characters of one of them


def error(refused: Refused, event_id: str | None, kind: str = "invalid_request_error") -> Json:
    """The answer to what cannot be done; the connection lives."""
    return {
        "type": "error",
        "error": {
            "type": kind,
            "code": refused.code,
            "message": refused.message,
            "param": refused.param,
            "event_id": event_id,
        },
    }


def server_error(code: str, message: str) -> Json:
    """A failure of ours, as responses and transcriptions tell of it."""
    return {"type": "server_error", "code": code, "message": message}


def speech_started(item_id: str, at_ms: int) -> Json:
    """Somebody speaks."""
    return {
        "type": "input_audio_buffer.speech_started",
        "item_id": item_id,
        "audio_start_ms": at_ms,
    }


def speech_stopped(item_id: str, at_ms: int) -> Json:
    """The speech of a turn is over."""
    return {"type": "input_audio_buffer.speech_stopped", "item_id": item_id, "audio_end_ms": at_ms}


def committed(item_id: str, previous: str | None) -> Json:
    """What was heard has become an item."""
    return {
        "type": "input_audio_buffer.committed",
        "item_id": item_id,
        "previous_item_id": previous,
    }


def timeout_triggered(item_id: str, start_ms: int, end_ms: int) -> Json:
    """Nobody has spoken for a while."""
    return {
        "type": "input_audio_buffer.timeout_triggered",
        "item_id": item_id,
        "audio_start_ms": start_ms,
        "audio_end_ms": end_ms,
    }


def item_added(item: Json, previous: str | None) -> Json:
    """An item has joined the conversation."""
    return {"type": "conversation.item.added", "item": item, "previous_item_id": previous}


def item_done(item: Json, previous: str | None) -> Json:
    """An item is complete."""
    return {"type": "conversation.item.done", "item": item, "previous_item_id": previous}


def transcription(step: str, item_id: str, **fields: object) -> Json:
    """A step of an item's transcription: delta, completed or failed."""
    return {
        "type": f"conversation.item.input_audio_transcription.{step}",
        "item_id": item_id,
        "content_index": 0,
        **fields,
    }


def spoken_item(item_id: str, transcript: str | None) -> Json:
    """A turn that was spoken."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": transcript}],
    }


def with_ours(
    metadata: dict[str, str], marks: dict[str, float], warning: str = ""
) -> dict[str, str]:
    """A client's pairs and ours, as far as there is room.

    Each `textpro.waterfall` is an object of its own, mark -> seconds against the endpoint decision.
    """
    parts: list[dict[str, float]] = [{}]
    for name, value in marks.items():
        mark = {name: round(value, 4)}
        if len(_compact(parts[-1] | mark)) > MAX_VALUE:
            parts.append({})
        parts[-1] |= mark
    names = ("textpro.waterfall", "textpro.waterfall_2")
    ours = {name: _compact(part) for name, part in zip(names, parts, strict=False) if part}
    if warning:
        ours["textpro.warning"] = warning[:MAX_VALUE]
    return metadata | ours if len(metadata) + len(ours) <= MAX_PAIRS else metadata


def _compact(part: dict[str, float]) -> str:
    return json.dumps(part, separators=(",", ":"))
