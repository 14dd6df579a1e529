"""`GET /v1/realtime`: moves messages between a socket, the protocol's core and a conversation.

Two tasks: one reads the socket and waits only for a recording to be heard, one tells the client
what the conversation says.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from textpro_stream.commands import Command
from textpro_stream.contracts import AudioChunk, samples_of_ms, seconds
from textpro_stream.errors import Overloaded, TextproError
from textpro_stream.events import Event, ReplyAudio
from textpro_stream.ports import Talk
from textpro_stream.server.fields import Refused, encoded_bytes
from textpro_stream.server.limits import DONE, FAILED, POLICY, Hangup
from textpro_stream.server.realtime import outgoing
from textpro_stream.server.realtime.core import Core, to_text
from textpro_stream.server.realtime.rules import Offer
from textpro_stream.server.realtime.state import Output
from textpro_stream.server.session import Route, SessionContext

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from textpro_stream.server.session import SessionContext

PIECE = samples_of_ms(200)  # of a recording, pushed at once
BETA = "this is the GA protocol: leave out the OpenAI-Beta header, or use a current client"


async def serve_realtime(socket: ServerConnection, context: SessionContext) -> None:
    """Hold one conversation with one client."""
    request = socket.request
    assert request is not None
    query = parse_qs(urlsplit(request.path).query)
    if "call_id" in query:
        raise Hangup("invalid_value", "no calls here: connect with model instead", POLICY)
    async with context.open_conversation(live=True) as talk:
        with context.joined(talk):
            core = Core(
                offer_of(context),
                context.session_id,
                talk.next_turn,
                transcription=query.get("intent") == ["transcription"],
                expires_at=int(time.time() + context.options.session_s),
                extended=query.get("textpro") == ["1"],
            )
            session = _Session(context, talk, core)
            session.act(core.start())
            protocols = request.headers.get_all("Sec-WebSocket-Protocol")
            if "OpenAI-Beta" in request.headers or any("openai-beta" in p for p in protocols):
                session.act(core.complain(Refused("invalid_value", BETA, "OpenAI-Beta")))
            await session.run()


def offer_of(context: SessionContext) -> Offer:
    """What a session may choose from."""
    engine = context.engine
    settings = engine.settings
    return Offer(
        model=settings.llm.model,
        asr=settings.whisper.model,
        voice=settings.speech.voice if engine.voice is not None else None,
        turn=settings.turn,
        llm=settings.llm,
        knows_tools=engine.llm is None or engine.llm.knows_tools,
    )


class _Session:
    """One conversation over one socket."""

    def __init__(self, context: SessionContext, talk: Talk, core: Core) -> None:
        self._context, self._talk, self._core = context, talk, core

    async def run(self) -> None:
        """Until the conversation is over or the client has gone."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(self._messages()), name="read")
            await self._tell()

    def act(self, out: Output) -> None:
        """Send what is to be sent, and tell the conversation what it is to be told."""
        self._send(out)
        for item in out.told:
            self._push(item)
        self._end(out)

    async def _act_patiently(self, out: Output) -> None:
        """The same; where audio need not be live, wait until the conversation has room for it.

        So a recording comes as fast as it is heard: the socket is not read meanwhile.
        """
        self._send(out)
        for item in out.told:
            if isinstance(item, AudioChunk) and self._core.recorded:
                for start in range(0, len(item.samples), PIECE):
                    piece = AudioChunk(item.samples[start : start + PIECE], item.start + start)
                    with self._troubles(piece):
                        await self._talk.push(self._context.filter_input(piece))
            else:
                self._push(item)
        self._end(out)

    def _send(self, out: Output) -> None:
        sender = self._context.sender
        for event in out.events:
            sound = event["type"] == "response.output_audio.delta"
            sender.send(to_text(event), reply=event["response_id"] if sound else None)
        for response_id in out.dropped:
            sender.drop(response_id)

    def _push(self, item: AudioChunk | Command) -> None:
        if isinstance(item, AudioChunk):
            self._context.admit_audio(seconds(len(item.samples)), "set turn_detection to null")
            item = self._context.filter_input(item)
        with self._troubles(item):
            self._talk.push_nowait(item)

    @contextmanager
    def _troubles(self, item: AudioChunk | Command) -> Iterator[None]:
        try:
            yield
        except Overloaded as problem:
            raise Hangup("overloaded", str(problem), POLICY) from problem
        except TextproError as problem:
            self.act(self._core.failed(item, str(problem)))

    def _end(self, out: Output) -> None:
        if out.over is not None:
            raise Hangup("server_error", out.over, FAILED)

    def _messages(self) -> AsyncIterator[str | bytes]:
        longest = encoded_bytes(self._context.options.append_bytes)
        return self._context.messages(_is_audio, longest)

    async def _read(self, messages: AsyncIterator[str | bytes]) -> None:
        errors = self._context.errors
        async for message in messages:
            out = self._core.receive(message, self._context.wall_s)
            await self._act_patiently(out)
            for event in out.events:
                if event["type"] == "error":
                    self._context.metrics.errors.labels(event["error"]["code"]).inc()
            if out.refused:
                errors.mistake()
            else:
                errors.fine()
        raise Hangup("", "the client left", DONE)

    async def _tell(self) -> None:
        context = self._context
        async for event in self._talk:
            context.publish(event)
            self.act(self._core.hear(_at_volume(event, context), context.wall_s))
            await context.sender.room()


def _is_audio(message: str | bytes) -> bool:
    """Audio is limited by its length: stock clients append 20 ms at a time."""
    if isinstance(message, bytes):
        return True
    kind = "input_audio_buffer.append"
    return kind in message[:100] or kind in message[-100:]


def _at_volume(event: Event, context: SessionContext) -> Event:
    if isinstance(event, ReplyAudio):
        return replace(event, chunk=context.filter_output(event.chunk))
    return event


def error(code: str, message: str) -> str:
    """The form that an error has on this route when it is no answer to an event."""
    kind = "invalid_request_error" if code == "rate_limited" else "server_error"
    event = outgoing.error(Refused(code, message), None, kind)
    return to_text({"event_id": f"event_{secrets.token_hex(8)}", **event})


ROUTE = Route("realtime", "/v1/realtime", "realtime", serve_realtime, error)
