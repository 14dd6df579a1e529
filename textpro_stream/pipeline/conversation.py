"""One talk: audio in, events out. Owns its tasks; shares the engine's weights.

Two tasks. `listen` moves audio through the ear and passes on what it decides; `mind` remembers and
replies. Leaving the block ends both. A failing stage ends this conversation alone, with `Failed`
and then `Finished`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable
from functools import partial
from types import TracebackType
from typing import Self

from textpro_stream.audio.frames import Framer
from textpro_stream.clock import Clock
from textpro_stream.contracts import AudioChunk, seconds
from textpro_stream.errors import StageError, TextproError
from textpro_stream.events import (
    Event,
    Failed,
    Finished,
    ReplyDucked,
    TurnEager,
    TurnEnded,
    TurnLatency,
    TurnResumed,
    WordsCommitted,
)
from textpro_stream.pipeline.device import DeviceThread, Priority
from textpro_stream.pipeline.ear import Ear, Step, Turn, has_words
from textpro_stream.pipeline.failure import cause
from textpro_stream.pipeline.inbox import Inbox, Item, Key, Typed
from textpro_stream.pipeline.latency import Arrivals, TurnMarks
from textpro_stream.pipeline.mind import Answer, Dismiss, Hear, Mind, Pause, Resume, Say
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.pipeline.trace import Trace

log = logging.getLogger(__name__)


class Conversation:
    """Open it with `Engine.open`.

        async with engine.open() as talk:
            talk.feed(source)
            async for event in talk:
                ...

    Args:
        ear: hears.
        mind: replies; None to stop after the transcript.
        outbox: that the mind puts events into as well.
        device: where the ear runs.
        trace: of this conversation.
        clock: for arrivals and CPU time.
        live: audio comes at its own pace, and somebody may listen to the reply. Otherwise (a file
            read as fast as it goes) the audio waits at every endpoint until the reply is complete,
            so that what is heard and said is the same as at real-time pace.
    """

    def __init__(
        self,
        ear: Ear,
        mind: Mind | None,
        *,
        outbox: Outbox,
        device: DeviceThread,
        trace: Trace,
        clock: Clock,
        live: bool,
    ) -> None:
        self.trace = trace
        self._ear, self._mind, self._device = ear, mind, device
        self._outbox, self._clock, self._live = outbox, clock, live
        self._inbox, self._framer, self._arrivals = Inbox(), Framer(), Arrivals()
        self._cpu = 0.0
        self._turn = 0  # the last one that an event was about
        self._reply_turn = 0
        self._failure: TextproError | None = None
        self._sources: list[AsyncIterable[AudioChunk]] = []
        self._task: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def voice(self) -> float:
        """Speech probability of the last frame heard, for a level meter."""
        return self._ear.voice

    @property
    def position(self) -> int:
        """Samples heard so far."""
        return self._ear.position

    async def __aenter__(self) -> Self:
        self._cpu = self._clock.cpu()
        self._task = asyncio.create_task(self._converse(), name="conversation")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def push(self, chunk: AudioChunk) -> None:
        """Hear audio, cut as you like; waits while a second of it is still unheard.

        Raises:
            StageError: the conversation has ended.
        """
        if self._live:
            self._arrivals.stamp(chunk.end, self._clock.now())
        for frame in self._framer.push(chunk):
            await self._put(frame)

    async def finish(self) -> None:
        """No more audio comes: an open turn ends, its reply is given, then comes `Finished`."""
        self._ear.end = self._framer.end  # the last frame is filled up beyond it
        for frame in self._framer.finish():
            await self._put(frame)
        await self._inbox.end()

    def feed(self, source: AsyncIterable[AudioChunk]) -> None:
        """Push a whole source and finish, in a task of this conversation's own."""
        self._sources.append(source)
        if self._tasks is not None:
            self._tasks.create_task(self._feed(self._sources.pop()), name="feed")

    async def press(self) -> None:
        """Push-to-talk: the key went down. A reply being given stops."""
        await self.stop("barge_in")
        await self._put(Key.PRESSED)

    async def release(self) -> None:
        """Push-to-talk: the key went up. The turn is over."""
        await self._put(Key.RELEASED)

    async def say(self, text: str) -> None:
        """Type a turn instead of speaking it. A reply being given stops."""
        await self.stop("barge_in")
        await self._put(Typed(text))

    async def stop(self, reason: str = "cancelled") -> None:
        """Stop the reply that is being given, if there is one."""
        if self._mind is not None:
            self._mind.stop(reason)

    def heard(self, samples: int) -> None:
        """A player reports how many samples of the present reply have been heard.

        Without such reports, audio is taken to be heard as soon as it could be.
        """
        if self._mind is not None:
            self._mind.heard(samples)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._outbox.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def _put(self, item: Item) -> None:
        if not await self._inbox.put(item):
            why = self._failure or "its block was left"
            raise StageError(f"the conversation has ended ({why}); open another")

    async def _feed(self, source: AsyncIterable[AudioChunk]) -> None:
        async for chunk in source:
            await self.push(chunk)
        await self.finish()

    async def _converse(self) -> None:
        last: list[Event] = []
        try:
            try:
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    tasks.create_task(self._listen(), name="listen")
                    if self._mind is not None:
                        tasks.create_task(self._mind.run(), name="mind")
                    while self._sources:
                        tasks.create_task(self._feed(self._sources.pop()), name="feed")
            except Exception as error:
                self._failure = failure = cause(error)
                # The event tells the person; where an unexpected error came from is for us.
                log.info("conversation failed", exc_info=failure.__cause__ or failure)
                last.append(Failed(self._turn, self._ear.position, failure.code, str(failure)))
            last.append(self._finished())
        finally:
            self._tasks = None
            await self._inbox.shut()
            await self._outbox.close(*last)

    async def _listen(self) -> None:
        while (taken := await self._inbox.take()) is not None:
            if not isinstance(taken, list):
                step = self._ear.press if taken is Key.PRESSED else self._ear.release
                await self._act(await self._device.run(Priority.HEAR, step))
                if isinstance(taken, Typed):  # a turn that was being spoken has ended
                    await self._answer_typed(taken.text)
                continue
            while taken:
                self._ear.replying = self._live and self._replying
                heard = await self._device.run(Priority.HEAR, partial(self._ear.push, taken))
                await self._act(heard)
                taken = taken[heard.n_frames :]
        await self._act(await self._device.run(Priority.HEAR, self._ear.finish))
        if self._mind is not None:
            await self._mind.end()

    @property
    def _replying(self) -> bool:
        return self._mind is not None and self._mind.replying

    async def _act(self, step: Step) -> None:
        """Pass on what the ear brought, in its order."""
        for signal in step.barged:
            if signal == "stop" and self._mind is not None:
                self._mind.stop("barge_in")
            else:
                ducked = signal == "duck"
                await self._outbox.put(ReplyDucked(self._reply_turn, self._ear.position, ducked))
        for event in step.events:
            self._turn = max(self._turn, event.turn)
            await self._outbox.put(event)
            match event:
                case WordsCommitted(turn=turn, spans=spans):
                    await self._order(Hear(turn, spans))
                case TurnResumed(turn=turn):
                    await self._order(Resume(turn))
                case TurnEager(turn=turn) if step.turn is not None:
                    self.trace.moment("eager")
                    await self._order(Pause(turn, step.turn.tail, step.turn.marks))
                case TurnEnded() if step.turn is not None:
                    await self._end_turn(event, step.turn)
                case _:
                    pass

    async def _answer_typed(self, text: str) -> None:
        marks, now = TurnMarks(), self._clock.now()
        event = TurnEnded(self._ear.count_turn(), self._ear.position, text, "typed")
        self._arrivals.stamp(event.at, now)
        marks.decide(now, event.at, event.at, self._arrivals)
        self._turn = event.turn
        await self._outbox.put(event)
        if self._mind is not None and has_words(text):
            self._reply_turn = event.turn
            await self._mind.order(Say(event.turn, text))
            await self._mind.order(Answer(event.turn, marks))

    async def _end_turn(self, event: TurnEnded, turn: Turn) -> None:
        self.trace.moment(f"endpoint: {event.reason}")
        marks = turn.marks
        if not self._live:  # waiting to be taken is no delay that anybody felt
            self._arrivals.restart(turn.ended_at, turn.decided)
        marks.decide(turn.decided, turn.ended_at, turn.speech_end, self._arrivals)
        if not has_words(event.transcript):
            await self._order(Dismiss(event.turn))
        elif self._mind is None:
            await self._outbox.put(TurnLatency(event.turn, event.at, marks.report()))
        else:
            self._reply_turn = event.turn
            await self._order(Answer(event.turn, marks))
            if not self._live:
                await self._mind.settled()

    async def _order(self, order: Hear | Pause | Resume | Answer | Dismiss) -> None:
        if self._mind is not None:
            await self._mind.order(order)

    def _finished(self) -> Finished:
        audio_s = max(seconds(self._framer.end), 1e-9)
        busy, totals = self.trace.busy, self._ear.totals
        kinds = {
            "encoder": ("encoder",),
            "decoder": ("decoder",),
            "llm": ("prefill", "decode"),
            "speech": ("speech",),
        }
        return Finished(
            turn=self._turn,
            at=self._framer.end,
            turns=totals.turns,
            words=totals.words,
            cpu_s=self._clock.cpu() - self._cpu,
            rtf={kind: sum(busy[k] for k in names) / audio_s for kind, names in kinds.items()},
            work=totals.figures(),
        )
