"""`GET /v1/realtime`: moves messages between a socket, the protocol's core and a conversation.

Three tasks: one reads the socket and never waits for a send, one carries out orders behind the
audio that came before them, one tells the client what the conversation says.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, seconds
from textpro_stream.errors import TextproError
from textpro_stream.events import Event, ReplyAudio
from textpro_stream.server.limits import DONE, FAILED, POLICY, Hangup
from textpro_stream.server.realtime.core import Core, to_text
from textpro_stream.server.realtime.incoming import Refused
from textpro_stream.server.realtime.orders import (
    Add,
    Clear,
    Configure,
    Drop,
    Hear,
    Order,
    Press,
    Release,
    Remove,
    Respond,
    Stop,
    Truncate,
)
from textpro_stream.server.realtime.rules import Offer
from textpro_stream.server.realtime.state import Output

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from textpro_stream.server.door import Door

BEHIND_S = 30.0  # of audio that waits to be heard: then we are too slow for this client
MAX_ORDERS = 5000  # that wait likewise
BETA = "this is the GA protocol: leave out the OpenAI-Beta header, or use a current client"


async def serve_realtime(socket: ServerConnection, door: Door) -> None:
    """Hold one conversation with one client."""
    request = socket.request
    assert request is not None
    query = parse_qs(urlsplit(request.path).query)
    if "call_id" in query:
        raise Hangup("invalid_value", "no calls here: connect with model instead", POLICY)
    core = Core(
        offer_of(door),
        door.session_id,
        transcription=query.get("intent") == ["transcription"],
        expires_at=int(time.time() + door.options.session_s),
        extended=query.get("textpro") == ["1"],
    )
    async with door.open_conversation(live=True) as talk:
        with door.joined(talk):
            session = _Session(door, talk, core)
            await session.act(core.start())
            protocols = request.headers.get_all("Sec-WebSocket-Protocol")
            if "OpenAI-Beta" in request.headers or any("openai-beta" in p for p in protocols):
                await session.act(core.complain(Refused("invalid_value", BETA, "OpenAI-Beta")))
            await session.run()


def offer_of(door: Door) -> Offer:
    """What a session may choose from."""
    engine = door.engine
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

    def __init__(self, door: Door, talk: Any, core: Core) -> None:
        self._door, self._talk, self._core = door, talk, core
        self._orders: deque[Order] = deque()
        self._waiting = 0  # samples among them
        self._position = 0  # samples handed over
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until the conversation is over or the client has gone."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(self._door.messages(_is_audio)), name="read")
            tasks.create_task(self._obey(), name="obey")
            await self._tell()

    async def act(self, out: Output) -> None:
        """Send what is to be sent, and see to the orders."""
        sender = self._door.sender
        for event in out.events:
            sound = event["type"] == "response.output_audio.delta"
            sender.send(to_text(event), reply=event["response_id"] if sound else None)
        stopped: list[int] = []
        for order in out.orders:
            match order:
                case Stop(turn=turn):
                    stopped.append(turn)
                case Drop(response_id=response_id):
                    sender.drop(response_id)
                case _:
                    self._put(order)
        for turn in stopped:
            await self._talk.stop("cancelled", turn=turn)
        if out.over is not None:
            raise Hangup("server_error", out.over, FAILED)

    def _put(self, order: Order) -> None:
        if isinstance(order, Hear):
            self._door.admit_audio(seconds(len(order.samples)))
            self._waiting += len(order.samples)
        if self._waiting > BEHIND_S * SAMPLE_RATE or len(self._orders) > MAX_ORDERS:
            raise Hangup("overloaded", "audio comes faster than it can be heard", POLICY)
        self._orders.append(order)
        self._changed.set()

    async def _read(self, messages: AsyncIterator[str | bytes]) -> None:
        errors = self._door.errors
        async for message in messages:
            out = self._core.receive(message, self._door.wall_s)
            await self.act(out)
            for event in out.events:
                if event["type"] == "error":
                    self._door.metrics.errors.labels(event["error"]["code"]).inc()
            if out.refused:
                errors.mistake()
            else:
                errors.fine()
        raise Hangup("", "the client left", DONE)

    async def _obey(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._orders:
                order = self._orders.popleft()
                try:
                    await self._carry_out(order)
                except TextproError as problem:
                    await self.act(self._core.failed(order, str(problem)))

    async def _carry_out(self, order: Order) -> None:
        talk = self._talk
        match order:
            case Hear(samples=samples):
                self._waiting -= len(samples)
                chunk = AudioChunk(samples, self._position)
                self._position = chunk.end
                await talk.push(self._door.heard(chunk))
            case Press():
                await talk.press()
            case Release():
                await talk.release()
            case Clear():
                await talk.clear()
            case Configure(changes=changes):
                await talk.configure(**changes)
            case Add(message=message, after=after):
                await talk.add(message, after=after)
            case Remove(message_id=message_id):
                await talk.remove(message_id)
            case Truncate(message_id=message_id, characters=characters):
                await talk.truncate(message_id, characters)
            case Respond(response_id=response_id, options=options):
                if self._core.wanted(response_id):
                    turn = await talk.respond(options)
                    await self.act(self._core.bound(response_id, turn))
            case Stop() | Drop():
                raise AssertionError("these do not wait")

    async def _tell(self) -> None:
        door = self._door
        async for event in self._talk:
            door.publish(event)
            await self.act(self._core.hear(_at_volume(event, door), door.wall_s))
            await door.sender.room()


def _is_audio(message: str | bytes) -> bool:
    """Audio is limited by its length: stock clients append 20 ms at a time."""
    if isinstance(message, bytes):
        return True
    kind = "input_audio_buffer.append"
    return kind in message[:100] or kind in message[-100:]


def _at_volume(event: Event, door: Door) -> Event:
    if isinstance(event, ReplyAudio):
        return replace(event, chunk=door.spoken(event.chunk))
    return event
