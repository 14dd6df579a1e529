"""One reply: drawn from the LLM and spoken, as a draft until the endpoint releases it.

A pause begins it, in case this was the end of the turn: it then runs up to its first clause and
waits. Released, it gives out what it has and goes on; dropped, nothing of it was ever seen. Text is
spoken clause by clause while later clauses are still being decoded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from textpro_stream.contracts import Delta, GenerationEnd, TextDelta, ToolCall
from textpro_stream.errors import as_textpro_error
from textpro_stream.events import Event, Failed, ReplyAudio, ReplyStarted, ReplyText
from textpro_stream.pipeline.context import ConversationContext
from textpro_stream.pipeline.playback import Playback
from textpro_stream.ports import Voice
from textpro_stream.speech import Clause, ClauseSplitter
from textpro_stream.telemetry.marks import Mark, TurnMarks

if TYPE_CHECKING:
    from textpro_stream.contracts import SpokenChunk

log = logging.getLogger(__name__)

DRAFT_PIECES = 24  # decoded at most before the endpoint: a long first clause; bounds the waste
# Seconds of audio given out ahead of what can have been heard. Less starves a player on a slow
# network; more is more to throw away at a barge-in, and more for a slow reader to pile up.
LEAD_S = 2.0
CLAUSES = 4  # decoded ahead of the voice: some 10 s of speech


class SpokenReply:
    """A task's worth of reply.

    Args:
        turn: the turn that it answers.
        deltas: what the LLM has to say, drawn as it is needed; closed at the end.
        voice: speaks it; None for text only.
        speed: of the voice; 1 is its own.
        marks: told when things happened.
        context: of the conversation.
        sounded: called when the first audio goes out.

    Attributes:
        text: decoded so far.
        tokens: that it took.
        calls: functions that it asks for.
        end: how the LLM ended it; None while it has not.
        seen: something of it has been given out.
        playback: what of its sound has been heard.
        drafted_speech_s: seconds of audio synthesised so far.
    """

    def __init__(
        self,
        turn: int,
        deltas: AsyncGenerator[Delta, None],
        voice: Voice | None,
        *,
        speed: float,
        marks: TurnMarks,
        context: ConversationContext,
        sounded: Callable[[], None],
    ) -> None:
        self.turn, self.text, self.tokens = turn, "", 0
        self.calls: list[ToolCall] = []
        self.end: GenerationEnd | None = None
        self.seen = False
        self.playback = Playback()
        self.drafted_speech_s = 0.0
        self.voice = voice
        self._deltas, self._speed, self._marks = deltas, speed, marks
        self._context, self._clock, self._sounded = context, context.clock, sounded
        self._released = asyncio.Event()
        self._silent = False
        self._held: list[Event] = []  # not to be seen before the endpoint
        self._clauses: asyncio.Queue[Clause | None] = asyncio.Queue(CLAUSES)
        self._giving = asyncio.Lock()  # what was held goes out before what comes next

    async def release(self) -> None:
        """The endpoint: give out what is there, and go on."""
        async with self._giving:
            self._released.set()
            held, self._held = self._held, []
            for event in held:
                await self._give(event)

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
        splitter = ClauseSplitter()
        n_pieces, clause_ready = 0, False
        async with aclosing(self._deltas) as deltas:
            while True:
                if clause_ready or n_pieces >= DRAFT_PIECES:
                    await self._released.wait()
                delta = await anext(deltas, None)
                match delta:
                    case TextDelta(text=text):
                        n_pieces += 1
                        if not self.text:
                            self._mark("first_token")
                            await self._emit(ReplyStarted(self.turn, 0))
                        self.tokens += delta.tokens
                        self.text += text
                        await self._emit(ReplyText(self.turn, 0, text))
                        for clause in splitter.push(text):
                            clause_ready = True
                            await self._say(clause)
                    case ToolCall():
                        self.calls.append(delta)
                    case GenerationEnd():
                        self.end = delta
                        self._marks.prompt_tokens = delta.prompt_tokens
                        self._marks.cached_tokens = delta.cached_tokens
                    case None:
                        break
        for clause in splitter.finish():
            await self._say(clause)
        await self._say(None)
        await self._released.wait()

    async def _say(self, clause: Clause | None) -> None:
        if self.voice is not None:
            if clause is not None:
                self._mark("first_clause")
            await self._clauses.put(clause)

    async def _speak(self, voice: Voice) -> None:
        spoken = 0  # samples
        failed = False
        while (clause := await self._clauses.get()) is not None:
            if failed:
                continue
            try:
                stream = voice.speak(
                    clause.text, start=spoken, text_start=clause.start, speed=self._speed
                )
                async with aclosing(cast("AsyncGenerator[SpokenChunk, None]", stream)) as chunks:
                    while True:
                        with self._context.trace.span("speech"):
                            chunk = await anext(chunks, None)
                        if chunk is None:
                            break
                        self._mark("tts_first")
                        spoken = chunk.start + len(chunk.samples)
                        self.drafted_speech_s = spoken / chunk.rate_hz
                        await self._emit(ReplyAudio(self.turn, 0, chunk))
                        await self._pace()
                self._context.health.worked("voice")
            except Exception as error:  # whatever it is, the words are still to be read
                failed = True
                self._context.health.failed("voice")
                log.warning("turn %d goes on without a voice", self.turn)
                await self._emit(Failed(self.turn, 0, "voice", str(as_textpro_error(error))))

    async def _pace(self) -> None:
        """Wait until what was given out has nearly been heard."""
        while self._context.audience.listens and self._released.is_set():
            moment = self._clock.now()
            early_s = self.playback.ahead_s(moment) - LEAD_S
            if early_s <= 0:
                return
            await self._clock.sleep_until(moment + early_s)

    async def _emit(self, event: Event) -> None:
        async with self._giving:
            if self._released.is_set():
                await self._give(event)
            else:
                self._held.append(event)

    async def _give(self, event: Event) -> None:
        if self._silent:
            return
        self.seen = True
        if isinstance(event, ReplyAudio):
            moment = self._clock.now()
            self._mark("first_audio")
            self.playback.add(event.chunk, moment)
            self._sounded()
        await self._context.outbox.put(replace(event, at=self._context.trace.position))

    def _mark(self, name: Mark) -> None:
        self._marks.note(name, self._clock.now())
