"""People for a soak: they talk, interrupt, vanish, stall and return, on both routes.

Each is a microphone that never stops and an ear. What they do is drawn by a seeded chance.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from textpro_stream.audio.pcm import encode_pcm16
from textpro_stream.audio.resample import Resampler
from textpro_stream.client import way_to
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.ports import Clock

FRAME_S = 0.04
NOISE = 1e-4  # full scale; a quiet room
PATIENCE_S = 45.0  # for an answer
STALL_S = 8.0  # without reading: more than the server keeps for us
REALTIME_HZ = 24_000
HABITS = {"talk": 5, "interrupt": 3, "vanish": 2, "stall": 1}  # how often each is drawn
ROUTES = ("stream", "realtime")


@dataclass
class Notes:
    """What the crowd did and met."""

    visits: Counter[str] = field(default_factory=Counter)  # by habit
    asked: int = 0
    answered: int = 0
    unanswered: int = 0
    ended: Counter[str] = field(default_factory=Counter)  # connections that the server ended
    errors: Counter[str] = field(default_factory=Counter)  # events, by code
    gaps_s: list[float] = field(default_factory=list)  # from the end of speech to the first sound


class Person:
    """Comes, does something, goes, and comes again.

    Args:
        url: of the route, without its name: ws://host:port/v1.
        route: one of `ROUTES`.
        questions: (n,) float32 at 16 kHz, each.
        random: decides everything.
        notes: where it is written down.
        clock: paces the microphone.
    """

    def __init__(
        self,
        url: str,
        route: str,
        questions: Sequence[NDArray[np.float32]],
        random: Random,
        notes: Notes,
        clock: Clock,
    ) -> None:
        self._url, self._route, self._notes = f"{url}/{route}", route, notes
        self._questions, self._random, self._clock = questions, random, clock

    async def live(self) -> None:
        """Visit after visit, until cancelled."""
        while True:
            habit = self._random.choices([*HABITS], [*HABITS.values()])[0]
            await self.visit(habit)
            await asyncio.sleep(self._random.uniform(1.0, 6.0))

    async def visit(self, habit: str) -> None:
        """One connection."""
        self._notes.visits[f"{self._route} {habit}"] += 1
        try:
            async with self._conversing() as talk:
                await getattr(self, f"_{habit}")(talk)
        except InvalidStatus as refusal:
            self._notes.ended[f"{self._route} {refusal.response.status_code}"] += 1
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else "lost"
            self._notes.ended[f"{self._route} {code} ({habit})"] += 1

    async def _talk(self, talk: _Talk) -> None:
        for _ in range(self._random.randint(1, 3)):
            await self._ask(talk)
            await talk.answer()
            await asyncio.sleep(self._random.uniform(0.5, 3.0))

    async def _interrupt(self, talk: _Talk) -> None:
        await self._ask(talk)
        if await talk.first_sound():
            await asyncio.sleep(self._random.uniform(0.2, 1.5))
            await self._ask(talk)
        await talk.answer()

    async def _vanish(self, talk: _Talk) -> None:
        asking = asyncio.create_task(self._ask(talk))
        if self._random.random() < 0.5:
            await asyncio.sleep(self._random.uniform(0.3, 2.0))
        else:
            await asking
            await talk.first_sound()
        asking.cancel()
        talk.socket.transport.abort()

    async def _stall(self, talk: _Talk) -> None:
        await self._ask(talk)
        if await talk.first_sound():
            talk.ear.cancel()
            await asyncio.sleep(STALL_S)

    async def _ask(self, talk: _Talk) -> None:
        self._notes.asked += 1
        await talk.say(self._random.choice(self._questions))

    @asynccontextmanager
    async def _conversing(self) -> AsyncIterator[_Talk]:
        realtime = self._route == "realtime"
        protocol = Subprotocol("realtime" if realtime else "textpro")
        async with connect(
            self._url, subprotocols=[protocol], compression=None, **way_to(self._url)
        ) as socket:
            talk = _Talk(socket, realtime, self._notes, self._clock)
            try:
                yield talk
            finally:
                await talk.close()


class _Talk:
    """One connection, with its microphone and its ear."""

    def __init__(
        self, socket: ClientConnection, realtime: bool, notes: Notes, clock: Clock
    ) -> None:
        self.socket, self._realtime, self._notes, self._clock = socket, realtime, notes, clock
        self._resampler = Resampler(SAMPLE_RATE, REALTIME_HZ) if realtime else None
        self._waiting: NDArray[np.float32] = np.zeros(0, np.float32)  # to be said
        self._silent, self._sounding, self._answered = (asyncio.Event() for _ in range(3))
        self._fell_silent = 0.0  # moment
        self._lost: ConnectionClosed | None = None
        self.microphone = asyncio.create_task(self._speak())
        self.ear = asyncio.create_task(self._hear())

    async def say(self, audio: NDArray[np.float32]) -> None:
        """Return when it has been said."""
        for event in (self._silent, self._sounding, self._answered):
            event.clear()
        self._waiting = audio
        await self._until(self._silent)

    async def first_sound(self) -> bool:
        """Wait for the reply to begin; False if there is none."""
        return await self._until(self._sounding)

    async def answer(self) -> None:
        """Wait for the end of the reply."""
        if await self._until(self._answered):
            self._notes.answered += 1
        else:
            self._notes.unanswered += 1

    async def close(self) -> None:
        for task in (self.microphone, self.ear):
            task.cancel()
        await asyncio.wait([self.microphone, self.ear])

    async def _until(self, event: asyncio.Event) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await event.wait()
        if self._lost is not None:
            raise self._lost
        return event.is_set()

    def _over(self, closed: ConnectionClosed) -> None:
        self._lost = closed
        for event in (self._silent, self._sounding, self._answered):
            event.set()

    async def _speak(self) -> None:
        size = round(FRAME_S * SAMPLE_RATE)
        noise = (np.random.default_rng(0).standard_normal(size) * NOISE).astype(np.float32)
        due = self._clock.now()
        try:
            while True:
                frame, speaking = noise.copy(), len(self._waiting) > 0
                if speaking:
                    said, self._waiting = self._waiting[:size], self._waiting[size:]
                    frame[: len(said)] += said
                await self.socket.send(self._message(frame))
                due += FRAME_S
                await self._clock.sleep_until(due)
                if speaking and not len(self._waiting):
                    self._fell_silent = self._clock.now()
                    self._silent.set()
        except ConnectionClosed as closed:
            self._over(closed)

    def _message(self, frame: NDArray[np.float32]) -> str | bytes:
        if self._resampler is None:
            return encode_pcm16(frame)
        audio = base64.b64encode(encode_pcm16(self._resampler.push(frame))).decode()
        return json.dumps({"type": "input_audio_buffer.append", "audio": audio})

    async def _hear(self) -> None:
        try:
            async for message in self.socket:
                if isinstance(message, str):
                    self._note(json.loads(message))
            self._over(ConnectionClosed(self.socket.protocol.close_rcvd, None))
        except ConnectionClosed as closed:
            self._over(closed)

    def _note(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "speech.audio" | "response.output_audio.delta":
                # What comes while we still speak belongs to the reply that we speak over.
                if self._silent.is_set() and not self._sounding.is_set():
                    self._sounding.set()
                    self._notes.gaps_s.append(self._clock.now() - self._fell_silent)
            case "reply.done" | "response.done":
                # That of a reply that we spoke over comes while we still speak.
                if self._silent.is_set():
                    self._sounding.set()  # there may be nothing more to wait for
                    self._answered.set()
            case "error":
                code = event.get("code") or event.get("error", {}).get("code")
                self._notes.errors[str(code)] += 1
