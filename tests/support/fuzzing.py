"""Messages for both routes, mostly wrong: grown from valid ones by seeded chance.

A message is what goes out as one WebSocket message, or as bytes on the raw connection.
"""

from __future__ import annotations

import base64
import copy
import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

Json = Any


@dataclass(frozen=True)
class Raw:
    """Bytes past the WebSocket library: frames as it would never make them."""

    data: bytes


Message = str | bytes | Raw

JUNK: list[Json] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    -0.0,
    2**31,
    2**63,
    -(2**63),
    10**30,
    1e308,
    -1e308,
    5e-324,
    math.nan,
    math.inf,
    -math.inf,
    "",
    " ",
    "x",
    "\0",
    "\ud800",
    "\u202e",
    "é" * 50,
    "😀",
    "x" * 600,
    "x" * 20_000,
    "item_404",
    "auto",
    "null",
    [],
    [[]],
    [None],
    ["a", 1, {}],
    {},
    {"type": None},
    {"type": "message"},
    {"": ""},
    "<script>alert(1)</script>",
    "'; drop table turns; --",
]


def pcm(random: Random, n: int) -> bytes:
    """Loud noise: voice, to a scripted detector."""
    return struct.pack(f"<{n}h", *(random.randint(-20_000, 20_000) for _ in range(n)))


def lean(random: Random) -> Message:
    """A valid message of the lean route."""
    kind = random.choice(
        ["audio", "audio", "start", "say", "press", "release", "stop", "heard", "set", "clock"]
        + ["mark"]
        + ["end"] * (random.random() < 0.1)
    )
    if kind == "audio":
        return pcm(random, random.choice([0, 1, 160, 320, 1600, 8000]))
    fields: dict[str, Json] = {
        "start": {"live": random.random() < 0.8, "voice": True, "vectors": random.random() < 0.2},
        "say": {"text": random.choice(["hello", "What time is it?", "é " * 30])},
        "heard": {"turn": random.randint(0, 5), "samples": random.randint(0, 10**6)},
        "set": {
            random.choice(["voice", "barge_in", "push_to_talk", "replies"]): random.random() < 0.5
        },
        "clock": {"t0": random.uniform(0, 1e6)},
        "mark": {"turn": 1, "name": random.choice(["false_cutoff", "first_audio_played", "x"])},
    }.get(kind, {})
    return json.dumps({"type": kind, **fields})


def _session(random: Random) -> Json:
    vad: Json = random.choice(
        [
            None,
            {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 300},
            {"type": "semantic_vad", "eagerness": random.choice(["low", "medium", "high"])},
            {"type": "server_vad", "create_response": False, "interrupt_response": False},
        ]
    )
    session: Json = {
        "type": "realtime",
        "instructions": "Be brief.",
        "output_modalities": [random.choice(["text", "audio"])],
        "audio": {
            "input": {
                "turn_detection": vad,
                "format": random.choice(
                    [{"type": "audio/pcm", "rate": 24_000}, {"type": "audio/pcmu"}]
                ),
                "transcription": {"model": "whisper-1"},
            },
            "output": {"voice": "alloy", "speed": 1.0, "format": {"type": "audio/pcma"}},
        },
        "tools": [
            {
                "type": "function",
                "name": "light",
                "description": "Switch it.",
                "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}},
            }
        ],
        "max_output_tokens": 20,
        "tool_choice": "auto",
    }
    for key in random.sample(sorted(session), random.randint(0, 5)):
        if key != "type":
            del session[key]
    return session


def realtime(random: Random) -> Message:
    """A valid message of the Realtime route."""
    item = f"item_{random.randint(0, 3)}"
    content = [{"type": "input_text", "text": "What time is it?"}]
    events: list[Json] = [
        {"type": "session.update", "session": _session(random)},
        *[
            {
                "type": "input_audio_buffer.append",
                "audio": base64.b64encode(
                    pcm(random, random.choice([1, 240, 2400, 9600]))
                ).decode(),
            }
        ]
        * 3,
        {"type": "input_audio_buffer.commit"},
        {"type": "input_audio_buffer.clear"},
        {
            "type": "conversation.item.create",
            "previous_item_id": random.choice([None, "root", item]),
            "item": {"id": item, "type": "message", "role": "user", "content": content},
        },
        {
            "type": "conversation.item.create",
            "item": {"type": "function_call_output", "call_id": "call_1", "output": "{}"},
        },
        {"type": "conversation.item.retrieve", "item_id": item},
        {"type": "conversation.item.delete", "item_id": item},
        {
            "type": "conversation.item.truncate",
            "item_id": item,
            "content_index": 0,
            "audio_end_ms": random.randint(0, 5000),
        },
        {"type": "response.create"},
        {
            "type": "response.create",
            "response": {
                "instructions": "Be brief.",
                "output_modalities": ["text"],
                "conversation": random.choice(["auto", "none"]),
                "metadata": {"a": "b"},
                "max_output_tokens": random.choice([1, 20, "inf"]),
            },
        },
        {"type": "response.cancel"},
        {"type": "output_audio_buffer.clear"},
    ]
    event = random.choice(events)
    if random.random() < 0.3:
        event["event_id"] = f"mine_{random.randint(0, 99)}"
    return json.dumps(event)


def mutated(random: Random, valid: Callable[[Random], Message]) -> Message:
    """Something else than a valid message, if not by chance."""
    message = valid(random)
    if isinstance(message, Raw) or random.random() < 0.03:
        return _frame(random)
    if isinstance(message, bytes):
        return random.choice([message + b"\0", random.randbytes(random.randint(0, 3000)), message])
    if random.random() < 0.003:
        return "x" * 1_100_000  # more than a message may have
    event = json.loads(message)
    match random.randrange(12):
        case 0:
            return message[: random.randrange(len(message) + 1)]
        case 1:
            event["type"] = random.choice(
                ["", "nonsense", "session.created", None, 7, [], "x" * 999]
            )
        case 2:
            depth = random.choice([50, 3000, 100_000])
            return random.choice(["[" * depth, '{"a":' * depth, "[" * depth + "]" * depth])
        case 3:
            return random.choice(
                ["", " ", "null", "[]", "7", '"x"', "NaN", "{", "\0", "{}", "1" * 5000]
            )
        case 4:
            return message.encode()  # as a binary frame
        case 5:
            return message.replace('"', random.choice(["'", '""', "\\"]), random.randint(1, 9))
        case 6:
            where = random.randrange(len(message))
            return message[:where] + chr(random.randrange(1, 0xD7FF)) + message[where + 1 :]
        case 7:
            event[random.choice(["event_id", "type", "item", "extra"])] = random.choice(JUNK)
        case _:
            for _ in range(random.randint(1, 3)):
                event = _wrong_somewhere(random, event)
    return (
        json.dumps(event, ensure_ascii=random.random() < 0.9, allow_nan=True)
        .encode("utf-8", "replace")
        .decode()
    )


def _wrong_somewhere(random: Random, event: Json) -> Json:
    """One field replaced, removed or added, at any depth."""
    changed = copy.deepcopy(event)
    holder, key = random.choice(list(_places(changed)))
    if random.random() < 0.2:
        del holder[key]
    elif random.random() < 0.1 and isinstance(holder, dict):
        holder[random.choice(["x", "", "type", "event_id"])] = random.choice(JUNK)
    else:
        holder[key] = random.choice(JUNK)
    return changed if changed else {"type": random.choice(["say", "response.create"])}


def _places(value: Json) -> Iterator[tuple[Json, Any]]:
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list) and value[key]:
            yield from _places(value[key])


def _frame(random: Random) -> Raw:
    """A frame, masked as a client's must be, whose inside or outside is wrong."""
    payload = random.randbytes(random.choice([0, 1, 5, 125]))
    match random.randrange(9):
        case 0:  # a text frame that is no UTF-8
            return Raw(frame(0x81, b'{"type":"\xff\xfe\xc3"}'))
        case 1:  # a reserved opcode
            return Raw(frame(0x83, payload))
        case 2:  # reserved bits
            return Raw(frame(0xF1, payload))
        case 3:  # a continuation of nothing
            return Raw(frame(0x80, payload))
        case 4:  # unmasked
            return Raw(bytes([0x81, len(payload)]) + payload)
        case 5:  # a fragmented text that never ends
            return Raw(frame(0x01, b'{"type":'))
        case 6:  # a ping, in order
            return Raw(frame(0x89, payload))
        case 7:  # a closing frame with a code that does not exist
            return Raw(frame(0x88, struct.pack(">H", random.choice([0, 999, 1005, 5000]))))
        case _:
            return Raw(random.randbytes(random.randint(1, 200)))


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame with any first byte."""
    mask = b"\x01\x02\x03\x04"
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return bytes([first, 0x80 | len(payload)]) + mask + masked
