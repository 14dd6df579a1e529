"""One reply: decoded and spoken behind a gate that only the endpoint opens.

A pause starts it, in case this was the end of the turn: it then runs up to its first clause and
waits. Opened, it gives out what it has and goes on; cancelled, nothing of it was ever seen. Text is
spoken clause by clause while later clauses are still being decoded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

from textpro_stream.ports import Clock
from textpro_stream.events import Event, Failed, ReplyAudio, ReplyStarted, ReplyText
from textpro_stream.runtime.device import DeviceThread, Priority
from textpro_stream.pipeline.doors import Replying, Speaking
from textpro_stream.pipeline.failure import cause
from textpro_stream.runtime.health import Health
from textpro_stream.telemetry.marks import TurnMarks
from textpro_stream.pipeline.playback import Playback
from textpro_stream.telemetry.trace import Trace
from textpro_stream.speech import Clause, ClauseSplitter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from textpro_stream.contracts import SpokenChunk

log = logging.getLogger(__name__)

DRAFT_PIECES = 24  # decoded at most before the endpoint: a long first clause; bounds the waste
# Seconds of audio given out ahead of what can have been heard. Less starves a player on a slow
# network; more is more to throw away at a barge-in, and more for a slow reader to pile up.
LEAD_S = 2.0
CLAUSES = 4  # decoded ahead of the voice: some 10 s of speech

Emit = Callable[[Event], Awaitable[None]]


class Reply:
    """A task's worth of reply.

    Args:
        turn: the turn that it answers.
        source: ready to decode; nobody else uses it until this reply has ended.
        voice: speaks it; None for text only.
        speed: of the voice; 1 is its own.
        listened: somebody hears it in real time: audio stays at most `LEAD_S` ahead of that.
        device: where decoding runs.
        emit: where events go once the gate is open.
        marks: told when things happened.
        health: told of a voice that fails.
        trace: knows where the audio clock stands.
        clock: for the marks and for playback.
    """

    def __init__(
        self,
        turn: int,
        source: Replying,
        voice: Speaking | None,
        *,
        speed: float,
        listened: bool,
        device: DeviceThread,
        emit: Emit,
        marks: TurnMarks,
        health: Health,
        trace: Trace,
        clock: Clock,
    ) -> None:
        self.turn, self.text = turn, ""
        self.playback = Playback()
        self.drafted_speech_s = 0.0
        self.source, self.voice = source, voice
        self.given = False  # something of it has been seen
        self._device, self._speed, self._listened = device, speed, listened
        self._health = health
        self._send, self._marks, self._trace, self._clock = emit, marks, trace, clock
        self._open = asyncio.Event()
        self._silent = False
        self._kept: list[Event] = []  # not to be seen before the gate opens
        self._clauses: asyncio.Queue[Clause | None] = asyncio.Queue(CLAUSES)
        self._opening = asyncio.Lock()  # what was kept goes out before what comes next

    async def release(self) -> None:
        """The endpoint: give out what is there, and go on."""
        async with self._opening:
            self._open.set()
            kept, self._kept = self._kept, []
            for event in kept:
                await self._give(event)

    def hurry(self) -> None:
        """Hold nothing back for a listener any more: nobody is there to interrupt."""
        self._listened = False

    def silence(self) -> None:
        """Give out nothing more, whatever is still on its way."""
        self._silent = True

    async def run(self) -> None:
        """Decode and speak to the end.

        Raises:
            ExceptionGroup: the LLM failed. A failing voice only falls silent.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._decode(), name=f"decode {self.turn}")
            if self.voice is not None:
                tasks.create_task(self._speak(self.voice), name=f"speak {self.turn}")

    async def _decode(self) -> None:
        pieces = await self._device.run(Priority.DECODE, self.source.reply)
        splitter = ClauseSplitter()
        n_pieces, clause_ready = 0, False
        while True:
            if clause_ready or n_pieces >= DRAFT_PIECES:
                await self._open.wait()
            piece = await self._device.run(Priority.DECODE, partial(next, pieces, None))
            if piece is None:
                break
            n_pieces += 1
            if not self.text:
                self._mark("first_token")
                await self._emit(ReplyStarted(self.turn, 0))
            self.text += piece
            await self._emit(ReplyText(self.turn, 0, piece))
            for clause in splitter.push(piece):
                clause_ready = True
                await self._say(clause)
        for clause in splitter.finish():
            await self._say(clause)
        await self._say(None)
        await self._open.wait()

    async def _say(self, clause: Clause | None) -> None:
        if self.voice is not None:
            if clause is not None:
                self._mark("first_clause")
            await self._clauses.put(clause)

    async def _speak(self, voice: Speaking) -> None:
        spoken = 0  # samples
        hoarse = False
        while (clause := await self._clauses.get()) is not None:
            if hoarse:
                continue
            try:
                stream = voice.speak(
                    clause.text, start=spoken, text_start=clause.start, speed=self._speed
                )
                async with aclosing(cast("AsyncGenerator[SpokenChunk, None]", stream)) as chunks:
                    while True:
                        with self._trace.span("speech"):
                            chunk = await anext(chunks, None)
                        if chunk is None:
                            break
                        self._mark("tts_first")
                        spoken = chunk.start + len(chunk.samples)
                        self.drafted_speech_s = spoken / chunk.rate_hz
                        await self._emit(ReplyAudio(self.turn, 0, chunk))
                        await self._pace()
                self._health.worked("voice")
            except Exception as error:  # whatever it is, the words are still to be read
                hoarse = True
                self._health.failed("voice")
                log.warning("turn %d goes on without a voice", self.turn)
                await self._emit(Failed(self.turn, 0, "voice", str(cause(error))))

    async def _pace(self) -> None:
        """Wait until what was given out has nearly been heard."""
        while self._listened and self._open.is_set():
            moment = self._clock.now()
            early_s = self.playback.ahead_s(moment) - LEAD_S
            if early_s <= 0:
                return
            await self._clock.sleep_until(moment + early_s)

    async def _emit(self, event: Event) -> None:
        async with self._opening:
            if self._open.is_set():
                await self._give(event)
            else:
                self._kept.append(event)

    async def _give(self, event: Event) -> None:
        if self._silent:
            return
        self.given = True
        if isinstance(event, ReplyAudio):
            moment = self._clock.now()
            self._mark("first_audio")
            self.playback.add(event.chunk, moment)
        await self._send(replace(event, at=self._trace.position))

    def _mark(self, name: str) -> None:
        self._marks.note(name, self._clock.now())
