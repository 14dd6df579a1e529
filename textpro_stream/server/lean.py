"""`GET /v1/stream`: PCM16 in, the events of `textpro stream --json` out, reply audio as frames.

Messages are tabled in docs/lean-route.md. Two tasks: one reads the socket and never waits for a
live conversation, one tells the client what the conversation says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import textpro_stream
from textpro_stream.audio.pcm import PcmDecoder, encode_pcm16
from textpro_stream.commands import (
    Command,
    Configure,
    Finish,
    Interrupt,
    Played,
    Press,
    Release,
    Say,
)
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, seconds
from textpro_stream.errors import Overloaded, TextproError
from textpro_stream.events import Event, ReplyAudio, ReplyEnded, ReplyEndReason
from textpro_stream.ports import Talk
from textpro_stream.server.fields import Fields, Refused, parse
from textpro_stream.server.limits import DONE, POLICY, Hangup
from textpro_stream.server.session import Route, SessionContext
from textpro_stream.wire import to_json

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

MAX_TEXT = 4000  # characters of a typed turn
MAX_NAME = 64  # characters of a mark
MAX_SOURCE = 200
INTERRUPTED: tuple[ReplyEndReason, ...] = ("barge_in", "cancelled")  # unsent audio is void
CHANGES = ("voice", "replies", "barge_in", "push_to_talk")  # that `set` and `start` take

Message = str | bytes
Changes = dict[str, bool]


@dataclass(frozen=True, slots=True)
class Start:
    """What the first message chooses once and for all."""

    source: str = ""
    live: bool = True
    vectors: bool = False


def error(code: str, message: str) -> str:
    """The form that an error has on this route."""
    return json.dumps({"type": "error", "code": code, "message": message}, ensure_ascii=False)


async def serve_lean(socket: ServerConnection, context: SessionContext) -> None:
    """Hold one conversation with one client, who may never say anything and only listen."""
    messages = context.messages()
    recorded: _Recorded | None = None
    async with context.open_conversation(live=True) as talk:
        with context.joined(talk):
            context.sender.send(json.dumps(_greeting(context), ensure_ascii=False))
            try:
                await _Session(context, talk).run(messages)
            except* _Recorded as group:
                (recorded,) = group.exceptions  # type: ignore[assignment]  # one task raises it
    if recorded is None:
        return
    # A file is read as fast as it is heard; between two reads may lie a whole reply, and with it
    # the answer to a ping.
    socket.ping_timeout = None
    async with context.open_conversation(live=False) as talk:
        with context.joined(talk):
            session = _Session(context, talk, recorded.start)
            await talk.push(session.configure(recorded.changes))
            await session.run(messages)


class _Recorded(Exception):
    """The first message says that the audio is not live: it needs another conversation."""

    def __init__(self, start: Start, changes: Changes) -> None:
        super().__init__("not live")
        self.start, self.changes = start, changes


class Order(Fields):
    """A text message of a client, with this route's words for what is wrong in it."""

    @classmethod
    def read(cls, message: str) -> Self:
        """A message that names its type.

        Raises:
            Refused: it is none.
        """
        try:
            order = cls(parse(message))
        except Refused:
            raise Refused("invalid_json", "send one JSON object") from None
        if not isinstance(order.values.get("type"), str):
            raise Refused("missing_field", "type: every message names one")
        return order

    @property
    def kind(self) -> str:
        """What it wants."""
        return str(self.values["type"])

    def required(self, name: str) -> Any:
        """A field that must be there; null is something, and of the wrong type."""
        if name not in self.values:
            raise Refused("missing_field", f"{name}: {self.kind} needs it", name)
        return self.values[name]


class _Session:
    """One conversation over one socket."""

    def __init__(self, context: SessionContext, talk: Talk, start: Start | None = None) -> None:
        self._context, self._talk, self._start = context, talk, start or Start()
        self._started = start is not None
        self._turn = context.engine.settings.turn
        self._decoder = PcmDecoder()
        self._ended = False

    async def run(self, messages: AsyncIterator[Message]) -> None:
        """Until the conversation is over or the client has gone."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(messages), name="read")
            await self._tell()
            reading.cancel()

    def configure(self, changes: Changes) -> Configure:
        """What `start` or `set` chose, in the conversation's terms."""
        rules = changes.keys() & {"barge_in", "push_to_talk"}
        self._turn = replace(
            self._turn,
            barge_in=changes.get("barge_in", self._turn.barge_in),
            push_to_talk=changes.get("push_to_talk", self._turn.push_to_talk),
        )
        return Configure(
            turn=self._turn if rules else None,
            voice=changes.get("voice"),
            replies=changes.get("replies"),
        )

    # From the client

    async def _read(self, messages: AsyncIterator[Message]) -> None:
        async for message in messages:
            if self._started:
                await self._take(message)
            else:
                await self._begin(message)
        raise Hangup("", "the client left", DONE)

    async def _begin(self, message: Message) -> None:
        self._started = True
        self._start, changes, first = _start(message, self._context)
        if not self._start.live:
            raise _Recorded(self._start, changes)
        await self._talk.push(self.configure(changes))
        if first is not None:
            await self._take(first)

    async def _take(self, message: Message) -> None:
        try:
            if isinstance(message, bytes):
                await self._hear(message)
            else:
                self._obey(Order.read(message))
        except Refused as refused:
            complain(self._context, refused.code, refused.message)
            self._context.errors.mistake()
        else:
            self._context.errors.fine()

    async def _hear(self, data: bytes) -> None:
        if self._ended:
            raise Refused("ended", "no audio is heard after end; open another connection")
        for chunk in self._decoder.push(data):
            if self._start.live:
                self._context.admit_audio(seconds(len(chunk.samples)), "start with live false")
                self._push(self._context.filter_input(chunk))
            else:
                with self._complaining():
                    await self._talk.push(self._context.filter_input(chunk))

    def _push(self, item: AudioChunk | Command) -> None:
        with self._complaining():
            self._talk.push_nowait(item)

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        """Tell the client what the conversation refuses: it has ended, or is too slow for it."""
        try:
            yield
        except Overloaded as problem:
            raise Hangup("overloaded", str(problem), POLICY) from problem
        except TextproError as problem:
            complain(self._context, problem.code, str(problem))

    def _obey(self, order: Order) -> None:
        match order.kind:
            case "say":
                text = order.text("text", MAX_TEXT)
                self._push(Say(self._talk.next_turn(), text))
            case "press":
                self._push(Press())
            case "release":
                self._push(Release())
            case "stop":
                self._push(Interrupt())
            case "end":
                self._ended = True
                self._push(Finish())
            case "heard":
                self._push(Played(order.count("turn"), order.count("samples")))
            case "set":
                self._push(self.configure(order.booleans(CHANGES)))
            case "clock":
                t0, t1 = order.number("t0"), self._context.wall_s
                clock = {"type": "clock", "t0": t0, "t1": t1, "t2": self._context.wall_s}
                self._context.sender.send(json.dumps(clock))
            case "mark":
                self._context.metrics.mark(order.text("name", MAX_NAME))
            case "start":
                raise Refused("invalid_value", "start comes first, once; use set afterwards")
            case unknown:
                raise Refused("unknown_event", f"type {unknown[:40]!r} is not known here")

    # To the client

    async def _tell(self) -> None:
        context = self._context
        async for event in self._talk:
            context.publish(event)
            message = json.dumps(self._json(event), ensure_ascii=False, allow_nan=False)
            match event:
                case ReplyAudio(turn=turn, chunk=chunk):
                    context.sender.send(
                        message, encode_pcm16(context.filter_output(chunk).samples), reply=turn
                    )
                case ReplyEnded(turn=turn, reason=reason):
                    if reason in INTERRUPTED:
                        context.sender.drop(turn)
                    context.sender.send(message)
                case _:
                    context.sender.send(message)
            await context.sender.room()

    def _json(self, event: Event) -> dict[str, object]:
        start, wall_s = self._start, self._context.wall_s
        return to_json(event, source=start.source, wall_s=wall_s, vectors=start.vectors)


def complain(context: SessionContext, code: str, message: str) -> None:
    """Tell the client of an error; the connection lives."""
    context.metrics.errors.labels(code).inc()
    context.sender.send(error(code, message))


def _greeting(context: SessionContext) -> dict[str, object]:
    engine, options = context.engine, context.options
    settings, voice = engine.settings, engine.voice
    return {
        "type": "session.started",
        "session": context.session_id,
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


def _start(first: Message, context: SessionContext) -> tuple[Start, Changes, Message | None]:
    """What the first message chose, and the message itself if it was not `start`."""
    if isinstance(first, bytes):
        return Start(), {}, first
    try:
        order = Order.read(first)
        if order.kind != "start":
            return Start(), {}, first
        chosen = order.booleans(("live", "vectors"))
        source = order.text("source", MAX_SOURCE) if "source" in order.values else ""
        return Start(source=source, **chosen), order.booleans(CHANGES), None
    except Refused as refused:
        complain(context, refused.code, refused.message)
        context.errors.mistake()
        return Start(), {}, None


ROUTE = Route("stream", "/v1/stream", "textpro", serve_lean, error)
