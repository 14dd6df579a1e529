"""Giving a reply: drafted, released, heard out or interrupted, and the events that tell of it.

One reply at a time; where it is in its life says `reply_state.py`. What the LLM remembers before
and after is the responder's affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from textpro_stream.commands import InterruptReason
from textpro_stream.contracts import Delta, Playout
from textpro_stream.errors import ConfigError, StageError, TextproError, as_textpro_error
from textpro_stream.events import (
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ToolCalled,
    TurnLatency,
)
from textpro_stream.pipeline.context import ConversationContext
from textpro_stream.pipeline.reply_state import ReplyMachine
from textpro_stream.pipeline.spoken_reply import SpokenReply
from textpro_stream.ports import Voice
from textpro_stream.speech.playout import to_word
from textpro_stream.telemetry.marks import TurnMarks

log = logging.getLogger(__name__)

TRIES = 2  # of a reply of which nothing has been seen, with a fresh cache in between
LOOK_S = 0.1  # between two looks at whether a reply has been heard out

Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class LastReply:
    """A reply that was given, and when it was over (monotonic): what an echo would repeat."""

    text: str
    over: float


class ReplyPlayer:
    """Gives one conversation's replies.

    Args:
        voice: speaks the replies; None for text only.
        context: of the conversation.

    Attributes:
        state: where the present reply is in its life.
        silent: replies are text alone.
        speed: of the voice; 1 is its own.
        last: the reply that was over last.
    """

    def __init__(self, voice: Voice | None, context: ConversationContext) -> None:
        self.state = ReplyMachine()
        self.silent, self.speed = False, 1.0
        self.last: LastReply | None = None
        self._voice, self._context = voice, context
        self._outbox, self._trace, self._clock = context.outbox, context.trace, context.clock
        self._reply: SpokenReply | None = None
        self._task: asyncio.Task[None] | None = None
        self._interrupted, self._pressed = asyncio.Event(), asyncio.Event()

    def ask(self, turn: int, *, pressing: bool = False) -> None:
        """A reply to this turn will be begun; `interrupt` counts for it from now on."""
        self.state.ask(turn, pressing=pressing)
        if pressing:
            self._pressed.set()

    def start(self, turn: int) -> None:
        """What was asked for has its turn now."""
        self.state.start(turn)
        if not self.state.pressing:
            self._pressed.clear()

    def interrupt(self, reason: InterruptReason, turn: int | None = None) -> None:
        """End the reply being given and those that were asked for, or the one to `turn`."""
        if self.state.interrupt(reason, turn):
            self._interrupted.set()

    def played(self, turn: int, samples: int) -> None:
        """A player tells how much of a reply has been heard."""
        if self._reply is not None and turn == self.state.turn:
            self._reply.playback.report(samples)

    @property
    def held(self) -> bool:
        """A draft waits for the endpoint, and has not failed."""
        return self.state.held and not _failed(self._task)

    def begin(
        self,
        turn: int,
        deltas: AsyncGenerator[Delta, None],
        marks: TurnMarks,
        *,
        voice: bool | None = None,
    ) -> None:
        """Draft a reply.

        Args:
            turn: that it answers.
            deltas: what the LLM says.
            marks: of that turn.
            voice: whether it is spoken; None: as `silent` has it.
        """
        self.state.begin(turn)
        self._interrupted.clear()
        spoken = not self.silent if voice is None else voice
        self._reply = SpokenReply(
            turn,
            deltas,
            self._voice if spoken else None,
            speed=self.speed,
            marks=marks,
            context=self._context,
            sounded=self.state.sound,
        )
        self._task = asyncio.create_task(self._reply.run(), name=f"reply {turn}")

    async def drop(self) -> SpokenReply | None:
        """End the draft, if there is one; nobody has seen it.

        Raises:
            TextproError: it had failed; it is dropped all the same.
        """
        if not self.state.held:
            return None
        self.state.drop()
        reply, self._reply = self._reply, None
        await self._end_task()
        return reply

    async def close(self) -> None:
        """Leave no task behind."""
        self.state.drop()
        self._reply = None
        with suppress(TextproError):
            await self._end_task()

    async def give(self, turn: int, marks: TurnMarks, *, draft: Step, recover: Step) -> Playout:
        """Release the reply to a turn, and stay until it has been heard or interrupted.

        Args:
            turn: that it answers.
            marks: of that turn.
            draft: begins it, if it has not begun; called again after a failure.
            recover: makes the LLM ready for another try.

        Returns:
            What the user got of it.
        """
        for tries_left in reversed(range(TRIES)):
            failure = await self._try(draft)
            if failure is None:
                break
            asked_wrongly = isinstance(failure, ConfigError)  # no fault, and no better next time
            if not asked_wrongly:
                self._context.health.failed("llm")
                log.warning("turn %d: the LLM failed; it gets a fresh cache", turn)
                await recover()
            text = self._reply.text if self._reply is not None and self._reply.seen else ""
            if text or asked_wrongly or not tries_left:
                await self.fail(turn, text, marks, failure)
                return Playout(len(text), calls_told=False)
            self.state.retry()
            self._reply = None
        reply = self._reply
        assert reply is not None, "a reply that did not fail is there"
        playout = await self._conclude(reply, marks)
        self._reply = self._task = None
        return playout

    async def fail(self, turn: int, text: str, marks: TurnMarks, failure: TextproError) -> None:
        """The reply failed for good; `text` of it has been given out."""
        self._reply = self._task = None
        self.state.turn = turn
        self.state.end("failed")
        position = self._trace.position
        await self._context.fail(turn, "llm", failure)
        await self._outbox.put(ReplyEnded(turn, position, text, "failed"))
        await self._outbox.put(TurnLatency(turn, position, marks.report()))

    async def _try(self, draft: Step) -> TextproError | None:
        """Give a reply until it is complete or interrupted, or tell why it failed."""
        try:
            if self.state.held and _failed(self._task):  # the draft was the first try
                self.state.drop()
                self._reply = None
                await self._end_task()  # raises what it failed of
            await draft()
        except Exception as error:
            await self.close()
            return as_textpro_error(error)
        reply, task = self._reply, self._task
        assert reply is not None
        assert task is not None
        if not self.state.release():  # interrupted before it began
            return None
        self._trace.moment("reply released")
        await reply.release()
        await self._until(task)
        if _failed(task) and not self.state.interrupted:
            failure = task.exception()
            assert failure is not None
            return as_textpro_error(failure)
        return None

    async def _conclude(self, reply: SpokenReply, marks: TurnMarks) -> Playout:
        """The reply is complete, or was interrupted: tell, and give what was heard of it."""
        turn, characters, calls_told = reply.turn, None, False
        if not self.state.interrupted:
            calls_told = True
            await self._complete(reply, marks)
        text = reply.text
        if self.state.interrupted:  # the loudspeaker first, then the memory
            reply.silence()
            await self._outbox.drop_reply(turn)
            if reply.voice is not None:
                text = to_word(text, reply.playback.heard_characters(self._clock.now()))
                characters = len(text)
            elif not reply.seen:
                text, characters = "", 0
        elif reply.end is not None:
            self.state.end(reply.end.reason)
        assert self.state.reason is not None, "it has ended"
        self.state.forget(turn)
        self.last = LastReply(text, self._clock.now())
        position = self._trace.position
        await self._outbox.put(ReplyEnded(turn, position, text, self.state.reason))
        if self.state.interrupted:
            with suppress(TextproError):  # nobody wants it any more
                await self._end_task()
        await self._outbox.put(TurnLatency(turn, position, marks.report()))
        return Playout(characters, calls_told)

    async def _complete(self, reply: SpokenReply, marks: TurnMarks) -> None:
        """All of it has been decoded and given out: say so, and let it be heard."""
        turn, end = reply.turn, reply.end
        if end is None:
            raise StageError("the LLM fell silent without ending its reply; ask again")
        self._context.health.worked("llm")
        if not reply.seen:
            await self._outbox.put(ReplyStarted(turn, self._trace.position))
        for call in reply.calls:
            await self._outbox.put(ToolCalled(turn, self._trace.position, call))
        given = ReplyGiven(turn, self._trace.position, reply.text, end.reason, marks.report())
        await self._outbox.put(given)
        await self._hear_out(reply)

    async def _hear_out(self, reply: SpokenReply) -> None:
        """With somebody listening, a reply lasts until its audio has been heard."""
        audience = self._context.audience
        while audience.listens and not self.state.interrupted and not self.state.pressing:
            moment = self._clock.now()
            if reply.playback.is_over(moment):
                return
            until = min(reply.playback.ends_at, moment + LOOK_S)
            wake = asyncio.create_task(self._clock.sleep_until(until), name="hear out")
            await self._until(wake, self._pressed)

    async def _until(self, task: asyncio.Task[None], *events: asyncio.Event) -> None:
        """Wait for a task, an interruption or an event; a task that only waits is ended."""
        waits = [
            asyncio.create_task(event.wait(), name="wait") for event in (self._interrupted, *events)
        ]
        try:
            await _first(task, *waits)
        finally:
            ended = [*waits, task] if task is not self._task else waits
            for each in ended:
                each.cancel()
            await asyncio.wait(ended)

    async def _end_task(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                raise as_textpro_error(error)


def _failed(task: asyncio.Task[None] | None) -> bool:
    return (
        task is not None and task.done() and not task.cancelled() and task.exception() is not None
    )


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
