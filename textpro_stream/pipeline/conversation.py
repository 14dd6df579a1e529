"""One talk: audio in, events out. Owns its tasks; shares the engine's weights.

Two tasks. `listen` moves audio through the ear and passes on what it decides; `mind` remembers and
replies. Leaving the block ends both. A model that fails costs a turn or a reply, which `Failed`
tells; what cannot be survived ends this conversation alone, with `Failed` and then `Finished`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

from textpro_stream.audio.frames import Framer
from textpro_stream.ports import Clock
from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.contracts import AudioChunk, Message, ReplyOptions, Tool, seconds
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
from textpro_stream.runtime.device import DeviceThread, Priority
from textpro_stream.pipeline.listener import Ear, Step, Turn, has_words
from textpro_stream.pipeline.failure import cause
from textpro_stream.runtime.health import Health
from textpro_stream.pipeline.inbox import Inbox, Item
from textpro_stream.telemetry.marks import Arrivals, TurnMarks
from textpro_stream.runtime.lateness import Lateness
from textpro_stream.pipeline.responder import Mind
from textpro_stream.pipeline.orders import (
    Add,
    Announce,
    Answer,
    Configure,
    Dismiss,
    Hear,
    Keep,
    Order,
    Pause,
    Remove,
    Respond,
    Rest,
    Resume,
    Say,
    Truncate,
)
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn.barge_in import echoes

log = logging.getLogger(__name__)

LOST_TURNS = 5  # in a row, of a failing recognizer: then the conversation ends
ECHO_S = 1.5  # after our reply; speech that began later is not what a loudspeaker said


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
        health: told of a recognizer that fails.
        lateness: told how long audio waits for being heard.
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
        health: Health,
        lateness: Lateness,
        trace: Trace,
        clock: Clock,
        live: bool,
    ) -> None:
        self.trace = trace
        self._ear, self._mind, self._device = ear, mind, device
        self._outbox, self._clock, self._live = outbox, clock, live
        self._health, self._lateness = health, lateness
        self._lost = 0  # turns in a row
        self._answering = mind is not None  # an endpoint brings a reply
        self._interruptible = True
        self._inbox, self._framer, self._arrivals = Inbox(clock), Framer(), Arrivals()
        self._cpu = 0.0
        self._turn = 0  # the last one that an event was about
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

    @property
    def rows(self) -> int:
        """Rows of the LLM's cache that this conversation takes up now."""
        return self._mind.rows if self._mind is not None else 0

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
        await self._outbox.shut()

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
        """Push-to-talk: the key went down. A reply being given stops, if speech may stop it."""
        if self._interruptible:
            await self.stop("barge_in")
        await self._put(partial(self._hear, self._ear.press))

    async def release(self) -> None:
        """Push-to-talk: the key went up. The turn is over."""
        await self._put(partial(self._hear, self._ear.release))

    async def clear(self) -> None:
        """Forget the open turn: nothing of it is remembered, and no `TurnEnded` comes."""
        await self._put(self._clear)

    async def say(self, text: str) -> None:
        """Type a turn instead of speaking it. A reply being given stops."""
        await self.stop("barge_in")
        await self._put(partial(self._answer_typed, self._ear.count_turn(), text))

    async def respond(self, options: ReplyOptions | None = None) -> int:
        """Reply to what is remembered; what is being said meanwhile is left out.

        Returns:
            The turn that the reply's events carry.

        Raises:
            StageError: there is no LLM, or the conversation has ended.
        """
        turn = self._expect()
        await self._put(partial(self._respond, turn, options or ReplyOptions()))
        return turn

    async def announce(self, text: str) -> int:
        """Say this aloud, and remember it as a reply.

        Returns:
            The turn that its events carry.

        Raises:
            StageError: as `respond`.
        """
        turn = self._expect()
        await self._put(partial(self._announce, turn, text))
        return turn

    async def configure(
        self,
        *,
        turn: TurnOptions | None = None,
        llm: LlmOptions | None = None,
        tools: Sequence[Tool] | None = None,
        replies: bool | None = None,
        interruptible: bool | None = None,
        voice: bool | None = None,
        speed: float | None = None,
    ) -> None:
        """Go on in another way, from the audio that is pushed next. None leaves a thing as it is.

        Args:
            turn: rules about turns; an open one goes on under them.
            llm: system prompt, sampling, length. The model and its dtype stay.
            tools: functions that the LLM may ask for.
            replies: False: an endpoint is remembered, and answered only when `respond` asks.
            interruptible: False: speech never stops a reply.
            voice: False: replies are text alone.
            speed: of the voice, 0.25 to 1.5; 1 is its own.
        """

        async def change() -> None:
            if turn is not None:
                await self._device.run(Priority.HEAR, partial(self._ear.configure, turn))
            if replies is not None:
                self._answering = replies and self._mind is not None
            if interruptible is not None:
                self._interruptible = interruptible
            await self._order(Configure(self._turn, llm, tools, voice, speed))

        await self._put(change)

    async def add(self, message: Message, after: str | None = None) -> None:
        """Remember a message without answering it; after another's id, or "" for the beginning."""
        await self._put(lambda: self._order(Add(self._turn, message, after)))

    async def remove(self, message_id: str) -> None:
        """Forget a message. A turn n leaves `u{n}` and `a{n}`."""
        await self._put(lambda: self._order(Remove(self._turn, message_id)))

    async def truncate(self, message_id: str, characters: int) -> None:
        """Of a reply, remember only the beginning."""
        await self._put(lambda: self._order(Truncate(self._turn, message_id, characters)))

    async def rest(self) -> None:
        """Nobody speaks: give the memory of the LLM's cache back until it is needed again."""
        await self._put(lambda: self._order(Rest(self._turn)))

    async def stop(self, reason: str = "cancelled", *, turn: int | None = None) -> None:
        """Stop the reply being given and those that were asked for, or the one to `turn`."""
        if self._mind is not None:
            self._mind.giver.stop(reason, turn)

    def heard(self, samples: int) -> None:
        """A player reports how many samples of the present reply have been heard.

        Without such reports, audio is taken to be heard as soon as it could be.
        """
        if self._mind is not None:
            self._mind.giver.heard(samples)

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
            self._device.afterwards(Priority.HEAR, self._ear.clear)  # the recognizer's memory
            await self._outbox.close(*last)

    async def _listen(self) -> None:
        while (taken := await self._inbox.take()) is not None:
            if not isinstance(taken, list):
                await taken()
                continue
            while taken:
                self._ear.replying = self._live and self._interruptible and self._replying
                await self._hear(partial(self._ear.push, taken))
                taken = [frame for frame in taken if frame.end > self._ear.taken]
            if self._live:  # else it is as late as it likes
                now = self._clock.now()
                self._lateness.note(now, now - self._inbox.since)
        await self._hear(self._ear.finish)
        if self._mind is not None:
            await self._mind.end()

    @property
    def _replying(self) -> bool:
        return self._mind is not None and self._mind.giver.replying

    async def _hear(self, listen: Callable[[], Step]) -> None:
        """A step of the ear, and what comes of it. One that fails costs the open turn."""
        try:
            step = await self._device.run(Priority.HEAR, listen)
        except Exception as error:
            self._lost += 1
            self._health.failed("asr")
            failure = cause(error)
            if self._lost >= LOST_TURNS:
                raise failure from error
            log.warning("turn lost: the recognizer failed (%s)", type(error).__name__)
            await self._outbox.put(Failed(self._turn, self._ear.position, "asr", str(failure)))
            step = await self._device.run(Priority.HEAR, self._ear.abandon)
        await self._act(step)

    async def _clear(self) -> None:
        await self._act(await self._device.run(Priority.HEAR, self._ear.clear))
        await self._order(Dismiss(self._turn))

    async def _act(self, step: Step) -> None:
        """Pass on what the ear brought, in its order."""
        for signal in step.barged:
            if signal == "stop" and self._mind is not None:
                self._mind.giver.stop("barge_in")
            elif self._mind is not None:
                ducked = signal == "duck"
                await self._outbox.put(
                    ReplyDucked(self._mind.giver.turn, self._ear.position, ducked)
                )
        for event in step.events:
            self._turn = max(self._turn, event.turn)
            match event:
                case WordsCommitted(turn=turn, spans=spans):
                    await self._outbox.put(event)
                    await self._order(Hear(turn, spans))
                case TurnResumed(turn=turn):
                    if self._answering:
                        await self._outbox.put(event)
                        await self._order(Resume(turn))
                case TurnEager(turn=turn) if step.turn is not None:
                    if self._answering:
                        await self._outbox.put(event)
                        self.trace.moment("eager")
                        await self._order(Pause(turn, step.turn.tail, step.turn.marks))
                case TurnEnded() if step.turn is not None:
                    await self._end_turn(event, step.turn)
                case _:
                    await self._outbox.put(event)

    async def _answer_typed(self, turn: int, text: str) -> None:
        await self._hear(self._ear.release)  # a turn that was being spoken has ended
        replies = self._answering and has_words(text)
        event = TurnEnded(turn, self._ear.position, text, "typed", replies)
        marks = self._marks_from_now()
        if self._mind is not None and replies:
            self._mind.giver.expect(turn)
        self._turn = max(self._turn, turn)
        await self._outbox.put(event)
        if self._mind is None or not has_words(text):
            return
        await self._order(Say(turn, text))
        await self._order(Answer(turn, marks) if replies else Keep(turn))

    async def _respond(self, turn: int, options: ReplyOptions) -> None:
        await self._order(Respond(turn, options, self._marks_from_now()))

    async def _announce(self, turn: int, text: str) -> None:
        await self._order(Announce(turn, text, self._marks_from_now()))

    def _expect(self) -> int:
        """The number of a turn that brings a reply without having been spoken."""
        if self._mind is None:
            raise StageError("there is no LLM in this conversation; load the engine with replies")
        turn = self._ear.count_turn()
        self._mind.giver.expect(turn)
        return turn

    def _marks_from_now(self) -> TurnMarks:
        """Marks of a turn that ends here, with no audio."""
        marks, now, at = TurnMarks(), self._clock.now(), self._ear.position
        self._arrivals.stamp(at, now)
        marks.decide(now, at, at, self._arrivals)
        return marks

    async def _end_turn(self, event: TurnEnded, turn: Turn) -> None:
        self.trace.moment(f"endpoint: {event.reason}")
        marks = turn.marks
        if not self._live:  # waiting to be taken is no delay that anybody felt
            self._arrivals.restart(turn.ended_at, turn.decided)
        marks.decide(turn.decided, turn.ended_at, turn.speech_end, self._arrivals)
        said = has_words(event.transcript)
        if event.reason != "failed":
            self._lost = 0
            if said:
                self._health.worked("asr")
            if self._is_echo(event.transcript, turn):
                event, said = replace(event, reason="echo"), False
        else:
            said = False
        event = replace(event, replies=said and self._answering)
        if self._mind is not None and event.replies:
            self._mind.giver.expect(event.turn)
        await self._outbox.put(event)
        if self._mind is None or not event.replies:
            await self._order(Keep(event.turn) if said else Dismiss(event.turn))
            if said:
                await self._outbox.put(TurnLatency(event.turn, event.at, marks.report()))
        else:
            await self._order(Answer(event.turn, marks))
            if not self._live:
                await self._mind.settled()

    def _is_echo(self, transcript: str, turn: Turn) -> bool:
        """The turn is our own reply, come back through the microphone."""
        if not self._live or self._mind is None or self._mind.giver.last is None:
            return False
        began = self._arrivals.moment(turn.speech)
        last = self._mind.giver.last
        return began <= last.over + ECHO_S and echoes(transcript, last.text)

    async def _order(self, order: Order) -> None:
        if self._mind is not None:
            await self._mind.order(order)

    def _finished(self) -> Finished:
        audio_s = seconds(self._framer.end) or math.inf  # typed talk has no ratio to audio
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
