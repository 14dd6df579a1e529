"""Giving a reply: its gate, its stop, its end, and the events that tell of them.

One reply at a time. What the memory does before and after is its owner's affair; here a reply is
begun behind its gate, opened, heard out or stopped, and tried again when the LLM failed before
anything of it had been seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from textpro_stream.ports import Clock
from textpro_stream.contracts import ToolCall
from textpro_stream.errors import TextproError
from textpro_stream.events import (
    Failed,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ToolCalled,
    TurnLatency,
)
from textpro_stream.runtime.device import DeviceThread
from textpro_stream.pipeline.doors import Replying, Speaking
from textpro_stream.pipeline.failure import cause
from textpro_stream.runtime.health import Health
from textpro_stream.telemetry.marks import TurnMarks
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.pipeline.playback import to_word
from textpro_stream.pipeline.spoken_reply import Reply
from textpro_stream.telemetry.trace import Trace

log = logging.getLogger(__name__)

TRIES = 2  # of a reply of which nothing has been seen, with a fresh cache in between

Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Recital:
    """A reply whose words are known."""

    text: str
    reason: str = "stop"
    calls: tuple[ToolCall, ...] = ()

    def reply(self) -> Iterator[str]:
        """The text, in words, so that it is spoken clause by clause like any other."""
        for i, word in enumerate(self.text.split(" ")):
            yield " " * (i > 0) + word


@dataclass(frozen=True, slots=True)
class Said:
    """A reply that was spoken, and when it was over (monotonic): what an echo would repeat."""

    text: str
    over: float


@dataclass(frozen=True, slots=True)
class Given:
    """What became of a reply."""

    text: str  # to be remembered
    heard: int | None = None  # characters of it that were heard; None: it was not stopped
    called: tuple[ToolCall, ...] = ()  # functions that it asked for, as was told


class Giver:
    """One conversation's mouth.

    Args:
        voice: speaks the replies; None for text only.
        device: where replies are decoded.
        outbox: where events go.
        health: told of failures.
        trace: knows where the audio clock stands.
        clock: for marks and playback.
        listened: somebody hears the reply in real time, so it lasts as long as its audio does.
    """

    def __init__(
        self,
        voice: Speaking | None,
        *,
        device: DeviceThread,
        outbox: Outbox,
        health: Health,
        trace: Trace,
        clock: Clock,
        listened: bool,
    ) -> None:
        self.silent, self.speed = False, 1.0
        self.turn = 0  # of the reply that is being given, or was last; 0 before the first
        self.ended = 0  # the turn whose reply ended last
        self.last: Said | None = None
        self._voice, self._device, self._outbox, self._health = voice, device, outbox, health
        self._trace, self._clock, self._listened = trace, clock, listened
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._gated = False  # the reply waits behind its gate
        self._stop: asyncio.Future[str]  # why the reply was stopped, once it was
        self._expected: dict[int, str] = {}  # turns to be answered: "", or why not to
        self._asked = 0  # replies that somebody asked for, not yet begun
        self._hurry = asyncio.Event()  # there are such: a reply is not heard out any longer

    def expect(self, turn: int) -> None:
        """A reply to this turn will be ordered; `stop` counts for it from now on."""
        self._expected[turn] = ""

    def ask(self, turn: int) -> None:
        """Somebody asks for a reply, and does not want to hear the last one out."""
        self._expected.setdefault(turn, "")
        self._asked += 1
        self._hurry.set()

    def asked(self) -> None:
        """What was asked for begins."""
        self._asked -= 1
        if not self._asked:
            self._hurry.clear()

    @property
    def replying(self) -> bool:
        """A reply is being given, or heard."""
        return self._reply is not None and not self._gated and not self._stop.done()

    def heard(self, samples: int) -> None:
        """A player reports how much of the present reply has been heard."""
        if self._reply is not None:
            self._reply.playback.report(samples)

    def stop(self, reason: str, turn: int | None = None) -> None:
        """End the reply that is being given, and those that are yet to come; or one of them."""
        if self.replying and turn in (None, self.turn):
            self._stop.set_result(reason)
        for expected in self._expected:
            if turn in (None, expected):
                self._expected[expected] = reason

    def end(self) -> None:
        """Nobody can interrupt any more, so no reply waits to be heard."""
        self._listened = False
        if self._reply is not None:
            self._reply.hurry()

    @property
    def gated(self) -> Reply | None:
        """The reply that waits behind its gate, if there is one and it has not failed."""
        return self._reply if self._gated and not _failed(self._task) else None

    def begin(self, turn: int, source: Replying, marks: TurnMarks) -> None:
        """Begin a reply behind its gate."""
        self.turn, self._gated = turn, True
        self._stop = asyncio.get_running_loop().create_future()
        self._reply = Reply(
            turn,
            source,
            None if self.silent else self._voice,
            speed=self.speed,
            listened=self._listened,
            device=self._device,
            emit=self._outbox.put,
            marks=marks,
            health=self._health,
            trace=self._trace,
            clock=self._clock,
        )
        self._task = asyncio.create_task(self._reply.run(), name=f"reply {turn}")

    async def drop(self) -> Reply | None:
        """End the reply that waits behind its gate, if there is one; nobody has seen it.

        Raises:
            TextproError: it had failed; it is dropped all the same.
        """
        if not self._gated:
            return None
        reply, self._reply, self._gated = self._reply, None, False
        await self._end_task()
        return reply

    async def close(self) -> None:
        """Leave no task behind."""
        self._gated, self._reply = False, None
        with suppress(TextproError):
            await self._end_task()

    async def give(self, turn: int, marks: TurnMarks, *, prepare: Step, recover: Step) -> Given:
        """Open a reply's gate, and stay until it has been given or stopped.

        Args:
            turn: that it answers.
            marks: of that turn.
            prepare: begins it, if it has not begun; called again after a failure.
            recover: makes the LLM ready for another try.
        """
        for tries_left in reversed(range(TRIES)):
            failure = await self._try(turn, prepare)
            if failure is None:
                break
            self._health.failed("llm")
            log.warning("turn %d: the LLM failed; it gets a fresh cache", turn)
            await recover()
            text = self._reply.text if self._reply is not None and self._reply.given else ""
            if text or not tries_left:
                await self.fail(turn, text, marks, failure)
                return Given(text, len(text))
        reply = self._reply
        assert reply is not None, "a reply that did not fail is there"
        given = await self._conclude(reply, marks)
        self._expected.pop(turn, None)
        self._reply = self._task = None
        return given

    async def fail(self, turn: int, text: str, marks: TurnMarks, failure: TextproError) -> None:
        """The reply failed for good; `text` of it has been given out."""
        self._expected.pop(turn, None)
        self._reply = self._task = None
        self.ended = turn
        position = self._trace.position
        await self._outbox.put(Failed(turn, position, "llm", str(failure)))
        await self._outbox.put(ReplyEnded(turn, position, text, "failed"))
        await self._outbox.put(TurnLatency(turn, position, marks.report()))

    async def _try(self, turn: int, prepare: Step) -> TextproError | None:
        """Give a reply until it is complete or stopped, or give back why it failed."""
        try:
            await prepare()
        except Exception as error:
            await self.close()
            return cause(error)
        reply, task = self._reply, self._task
        assert reply is not None
        assert task is not None
        self._gated = False
        if why := self._expected.pop(turn, ""):  # stopped before it began
            self._stop.set_result(why)
        else:
            self._trace.moment("reply released")
            await reply.release()
        await _first(task, self._stop)
        return cause(task.exception()) if _failed(task) and not self._stop.done() else None

    async def _conclude(self, reply: Reply, marks: TurnMarks) -> Given:
        """The reply is complete, or was stopped: what of it is to be remembered."""
        turn, heard, called = reply.turn, None, tuple[ToolCall, ...]()
        if not self._stop.done():
            self._health.worked("llm")
            if not reply.given:
                await self._outbox.put(ReplyStarted(turn, self._trace.position))
            called = reply.source.calls
            for call in called:
                await self._outbox.put(ToolCalled(turn, self._trace.position, call))
            reason, position = reply.source.reason, self._trace.position
            given = ReplyGiven(turn, position, reply.text, reason, marks.report())
            await self._outbox.put(given)
            await self._hear_out(reply)
        text = reply.text
        if self._stop.done():  # the loudspeaker first, then the memory
            reply.silence()
            await self._outbox.drop_reply(turn)
            if reply.voice is not None:
                text = to_word(text, reply.playback.heard_characters(self._clock.now()))
                heard = len(text)
            elif not reply.given:
                text, heard = "", 0
            await self._outbox.put(
                ReplyEnded(turn, self._trace.position, text, self._stop.result())
            )
            with suppress(TextproError):  # nobody wants it any more
                await self._end_task()
        else:
            reason = reply.source.reason
            await self._outbox.put(ReplyEnded(turn, self._trace.position, text, reason))
        self.ended, self.last = turn, Said(text, self._clock.now())
        await self._outbox.put(TurnLatency(turn, self._trace.position, marks.report()))
        return Given(text, heard, called)

    async def _hear_out(self, reply: Reply) -> None:
        """With somebody listening, a reply lasts until its audio has been heard."""
        while self._listened and not self._stop.done() and not self._hurry.is_set():
            moment = self._clock.now()
            if reply.playback.is_over(moment):
                return
            wake = asyncio.create_task(
                self._clock.sleep_until(min(reply.playback.ends_at, moment + 0.1)), name="hear out"
            )
            hurry = asyncio.create_task(self._hurry.wait(), name="hurry")
            try:
                await _first(wake, hurry, self._stop)
            finally:
                wake.cancel()
                hurry.cancel()
                await asyncio.wait([wake, hurry])

    async def _end_task(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and task.exception() is not None:
                raise cause(task.exception())


def _failed(task: asyncio.Task[None] | None) -> bool:
    return (
        task is not None and task.done() and not task.cancelled() and task.exception() is not None
    )


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
