"""`GET /v1/stream`: PCM16 in, the events of `textpro stream --json` out, reply audio as frames.

Messages are tabled in the README. Three tasks: one reads the socket and never waits for a live
conversation, one hands what was read to the conversation in its order, one tells the client what
the conversation says.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import textpro_stream
from textpro_stream.audio.pcm import PcmDecoder
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, seconds
from textpro_stream.errors import TextproError
from textpro_stream.events import Event, ReplyAudio, ReplyEnded
from textpro_stream.server.fields import (
    Mistake,
    booleans_of,
    count_of,
    number_of,
    parse,
    text_of,
)
from textpro_stream.server.limits import DONE, POLICY, Hangup
from textpro_stream.wire import to_json

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from textpro_stream.pipeline import Conversation
    from textpro_stream.server.door import Door

AHEAD_S = 1.0  # of a file that waits to be heard: then it is not read on
BEHIND_S = 30.0  # of live audio that waits to be heard: then we are too slow for this client
MAX_TEXT = 4000  # characters of a typed turn
MAX_NAME = 64  # characters of a mark
MAX_SOURCE = 200
CHANGES = ("voice", "replies", "barge_in", "push_to_talk")  # that `set` and `start` take

Message = str | bytes
Changes = dict[str, bool]
Order = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Start:
    """What the first message chooses once and for all."""

    source: str = ""
    live: bool = True
    vectors: bool = False


def error(code: str, message: str) -> str:
    """The form that an error has on this route."""
    return json.dumps({"type": "error", "code": code, "message": message}, ensure_ascii=False)


async def serve_lean(socket: ServerConnection, door: Door) -> None:
    """Hold one conversation with one client."""
    door.sender.send(json.dumps(_greeting(door), ensure_ascii=False))
    messages = door.messages()
    first = await anext(messages, None)
    if first is None:
        return
    start, changes, first = _start(first, door)
    if not start.live:
        # A file is read as fast as it is heard; between two reads may lie a whole reply, and with
        # it the answer to a ping.
        socket.ping_timeout = None
    async with door.open_conversation(live=start.live) as talk:
        with door.joined(talk):
            session = _Session(door, talk, start)
            await session.configure(changes)
            await session.run(first, messages)


class _Session:
    """One conversation over one socket."""

    def __init__(self, door: Door, talk: Conversation, start: Start) -> None:
        self._door, self._talk, self._start = door, talk, start
        self._turn = door.engine.settings.turn
        self._decoder = PcmDecoder()
        self._queue: deque[AudioChunk | Order] = deque()
        self._queued = 0  # samples
        self._changed = asyncio.Condition()
        self._speaking = 0  # the turn whose reply audio was sent last
        self._ended = False

    async def run(self, first: Message | None, messages: AsyncIterator[Message]) -> None:
        """Until the conversation is over or the client has gone."""
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(self._read(first, messages), name="read"),
                tasks.create_task(self._feed(), name="feed"),
            ]
            await self._tell()
            for task in beside:
                task.cancel()

    async def configure(self, changes: Changes) -> None:
        """Apply what `start` or `set` chose."""
        choices: dict[str, Any] = {k: v for k, v in changes.items() if k in ("voice", "replies")}
        if "barge_in" in changes:
            choices["turn"] = self._turn = replace(self._turn, barge_in=changes["barge_in"])
        if "push_to_talk" in changes:
            held = changes["push_to_talk"]
            choices["turn"] = self._turn = replace(self._turn, push_to_talk=held)
        if choices:
            await self._talk.configure(**choices)

    # From the client

    async def _read(self, first: Message | None, messages: AsyncIterator[Message]) -> None:
        if first is not None:
            await self._take(first)
        async for message in messages:
            await self._take(message)
        raise Hangup("", "the client left", DONE)

    async def _take(self, message: Message) -> None:
        try:
            if isinstance(message, bytes):
                await self._hear(message)
            else:
                await self._obey(parse(message))
        except Mistake as mistake:
            complain(self._door, mistake.code, str(mistake))
            self._door.errors.mistake()
        else:
            self._door.errors.fine()

    async def _hear(self, data: bytes) -> None:
        if self._ended:
            raise Mistake("ended", "no audio is heard after end; open another connection")
        for chunk in self._decoder.push(data):
            if self._start.live:
                self._door.admit_audio(seconds(len(chunk.samples)))
                if self._queued > BEHIND_S * SAMPLE_RATE:
                    raise Hangup("overloaded", "audio comes faster than it can be heard", POLICY)
            else:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._queued < AHEAD_S * SAMPLE_RATE)
            await self._put(self._door.heard(chunk))

    async def _obey(self, order: dict[str, Any]) -> None:
        talk = self._talk
        match order["type"]:
            case "say":
                text = text_of(order, "text", MAX_TEXT)
                await self._put(lambda: talk.say(text))
            case "press":
                await self._put(talk.press)
            case "release":
                await self._put(talk.release)
            case "stop":
                await talk.stop()
            case "end":
                self._ended = True
                await self._put(talk.finish)
            case "heard":
                turn, samples = count_of(order, "turn"), count_of(order, "samples")
                if turn == self._speaking:
                    talk.heard(samples)
            case "set":
                changes = booleans_of(order, CHANGES)
                await self._put(lambda: self.configure(changes))
            case "clock":
                t0, t1 = number_of(order, "t0"), self._door.wall_s
                clock = {"type": "clock", "t0": t0, "t1": t1, "t2": self._door.wall_s}
                self._door.sender.send(json.dumps(clock))
            case "mark":
                self._door.metrics.mark(text_of(order, "name", MAX_NAME))
            case "start":
                raise Mistake("invalid_value", "start comes first, once; use set afterwards")
            case unknown:
                raise Mistake("unknown_event", f"type {str(unknown)[:40]!r} is not known here")

    # To the conversation

    async def _put(self, item: AudioChunk | Order) -> None:
        async with self._changed:
            self._queue.append(item)
            if isinstance(item, AudioChunk):
                self._queued += len(item.samples)
            self._changed.notify_all()

    async def _feed(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._queue))
                item = self._queue.popleft()
                if isinstance(item, AudioChunk):
                    self._queued -= len(item.samples)
                self._changed.notify_all()
            try:
                if isinstance(item, AudioChunk):
                    await self._talk.push(item)
                else:
                    await item()
            except TextproError as problem:  # the conversation has ended or refuses: it says why
                complain(self._door, problem.code, str(problem))

    # To the client

    async def _tell(self) -> None:
        door = self._door
        async for event in self._talk:
            door.publish(event)
            message = json.dumps(self._json(event), ensure_ascii=False, allow_nan=False)
            match event:
                case ReplyAudio(turn=turn, chunk=chunk):
                    self._speaking = turn
                    door.sender.send(message, pcm16(door.spoken(chunk).samples), reply=turn)
                case ReplyEnded(turn=turn, reason=reason):
                    if reason in ("barge_in", "cancelled"):
                        door.sender.drop(turn)
                    door.sender.send(message)
                case _:
                    door.sender.send(message)
            await door.sender.room()

    def _json(self, event: Event) -> dict[str, object]:
        start, wall_s = self._start, self._door.wall_s
        return to_json(event, source=start.source, wall_s=wall_s, vectors=start.vectors)


def pcm16(samples: NDArray[np.float32]) -> bytes:
    """Full-scale floats as PCM16 little-endian."""
    scaled: NDArray[np.float32] = np.clip(np.rint(samples * 32767.0), -32768, 32767)
    return scaled.astype("<i2").tobytes()


def complain(door: Door, code: str, message: str) -> None:
    """Tell the client of an error; the connection lives."""
    door.metrics.errors.labels(code).inc()
    door.sender.send(error(code, message))


def _greeting(door: Door) -> dict[str, object]:
    engine, options = door.engine, door.options
    settings, voice = engine.settings, engine.voice
    return {
        "type": "session.started",
        "session": door.session_id,
        "input_rate_hz": SAMPLE_RATE,
        "reply_rate_hz": voice.rate_hz if voice is not None else None,
        "version": textpro_stream.__version__,
        "models": {
            "asr": settings.whisper.model,
            "llm": settings.llm.model if engine.llm is not None else None,
            "voice": settings.speech.voice if voice is not None else None,
        },
        "limits": {
            "message_bytes": options.message_bytes,
            "audio_speed": options.audio_speed,
            "audio_burst_s": options.audio_burst_s,
            "events_per_s": options.events_per_s,
            "idle_s": options.idle_s,
            "session_s": options.session_s,
        },
    }


def _start(first: Message, door: Door) -> tuple[Start, Changes, Message | None]:
    """What the first message chose, and the message itself if it was not `start`."""
    if isinstance(first, bytes):
        return Start(), {}, first
    try:
        order = parse(first)
        if order["type"] != "start":
            return Start(), {}, first
        chosen = booleans_of(order, ("live", "vectors"))
        source = text_of(order, "source", MAX_SOURCE) if "source" in order else ""
        return Start(source=source, **chosen), booleans_of(order, CHANGES), None
    except Mistake as mistake:
        complain(door, mistake.code, str(mistake))
        door.errors.mistake()
        return Start(), {}, None
