"""One talk: audio and commands in, events out. Owns its tasks; shares the engine's weights.

Two tasks. `listen` takes what was pushed in its order, moves audio through the listener and passes
on what it decides; `respond` keeps the LLM where the talk is and replies. Leaving the block ends
both. A model that fails costs a turn or a reply, which `Failed` tells; what cannot be survived ends
this conversation alone, with `Failed` and then `Finished`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterable
from dataclasses import replace
from typing import Self, assert_never

from textpro_stream import events as ev
from textpro_stream.audio.frames import Framer
from textpro_stream.commands import (
    Add,
    Announce,
    Clear,
    Command,
    Configure,
    Finish,
    Interrupt,
    Played,
    Press,
    Release,
    Remove,
    Respond,
    Rest,
    Say,
    Truncate,
)
from textpro_stream.contracts import UNSURE, AudioChunk, OpenTurn, TokenSpan, has_words, seconds
from textpro_stream.errors import StageError, TextproError, as_textpro_error
from textpro_stream.pipeline.context import ConversationContext
from textpro_stream.pipeline.inbox import Inbox
from textpro_stream.pipeline.listener import Control, Listened, Listener, Push, SetRules
from textpro_stream.pipeline.numbers import TurnNumbers
from textpro_stream.pipeline.recording import Recorder
from textpro_stream.pipeline.responder import Asked, Close, Follow, Responder, Task
from textpro_stream.pipeline.spoken_turn import SpokenTurn, WorkTotals
from textpro_stream.runtime.device import Step
from textpro_stream.telemetry.marks import Arrivals, TurnMarks
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn.barge_in import echoes, is_backchannel

log = logging.getLogger(__name__)

LOST_TURNS = 5  # in a row, of a failing recognizer: then the conversation ends
ECHO_S = 1.5  # after our reply; speech that began later is not what a loudspeaker said


class Conversation:
    """A `Talk`. Open it with `Engine.open`.

        async with engine.open() as talk:
            talk.feed(source)
            async for event in talk:
                ...

    Args:
        listener: hears.
        responder: replies; None to stop after the transcript.
        context: what both share.
        numbers: of turns, spoken or asked for; the listener draws from them too.
        live: audio comes at its own pace. Otherwise (a file read as fast as it goes) what was
            pushed waits until a reply is complete, so that what is heard and said is the same as
            at real-time pace, and the same each time.
        recorder: writes down what this conversation is told.
    """

    def __init__(
        self,
        listener: Listener,
        responder: Responder | None,
        context: ConversationContext,
        *,
        numbers: TurnNumbers,
        live: bool,
        recorder: Recorder | None = None,
    ) -> None:
        self._listener, self._responder, self._context = listener, responder, context
        self._outbox, self._clock, self._trace = context.outbox, context.clock, context.trace
        self._numbers, self._live, self._recorder = numbers, live, recorder
        self._lost = 0  # turns in a row
        self._answering = responder is not None  # an endpoint brings a reply
        self._inbox, self._framer, self._arrivals = Inbox(context.clock), Framer(), Arrivals()
        self._end: int | None = None  # samples of true audio, once that is known
        self._cpu = 0.0
        self._turn = 0  # the last one that an event was about
        self._followed = (0, "", False, UNSURE)  # as the responder was told last
        self._failure: TextproError | None = None
        self._sources: list[AsyncIterable[AudioChunk]] = []
        self._task: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def trace(self) -> Trace:
        """Busy seconds, and spans where they are recorded."""
        return self._trace

    @property
    def voice(self) -> float:
        """Speech probability of the last frame heard, for a level meter."""
        return self._listener.voice

    @property
    def position(self) -> int:
        """Samples heard so far."""
        return self._listener.position

    @property
    def work(self) -> WorkTotals:
        """What recognising the turns so far has taken."""
        return self._listener.totals

    @property
    def tokens_cached(self) -> int:
        """Rows of the LLM's cache that this conversation takes up now."""
        return self._responder.tokens_cached if self._responder is not None else 0

    async def __aenter__(self) -> Self:
        self._cpu = self._clock.cpu()
        self._task = asyncio.create_task(self._converse(), name="conversation")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._outbox.shut()

    # What it is told

    def next_turn(self) -> int:
        """The number of a turn that a command will bring."""
        return self._numbers.next()

    async def push(self, item: AudioChunk | Command, /) -> None:
        """Hear audio, cut as you like, or obey a command behind the audio before it.

        Waits while a second of audio is still unheard. `Interrupt` and `Played` count at once.

        Raises:
            StageError: the conversation has ended, or there is no LLM for what is asked.
        """
        for each in self._accept(item):
            self._check(await self._inbox.put(each), each)

    def push_nowait(self, item: AudioChunk | Command, /) -> None:
        """The same without waiting, up to half a minute of audio.

        Raises:
            Overloaded: more than that waits.
            StageError: as `push`.
        """
        for each in self._accept(item):
            self._check(self._inbox.put_nowait(each), each)

    def _accept(self, item: AudioChunk | Command) -> list[AudioChunk | Command]:
        """What of it takes its place in the queue; what counts at once is done."""
        if self._recorder is not None:
            self._recorder.note(item)
        responder = self._responder
        match item:
            case AudioChunk():
                if self._live:
                    self._arrivals.stamp(item.end, self._clock.now())
                return [*self._framer.push(item)]
            case Interrupt(reason=reason, turn=turn):
                if responder is not None:
                    responder.interrupt(reason, turn)
                return []
            case Played(turn=turn, samples=samples):
                if responder is not None:
                    responder.player.played(turn, samples)
                return []
            case Finish():
                self._end = self._framer.end  # the last frame is filled up after it
                return [*self._framer.finish(), item]
            case Respond(turn=turn) | Announce(turn=turn):
                if responder is None:
                    raise StageError("there is no LLM in this conversation; load one to reply")
                responder.expect(turn)
            case Press(interrupts=True) | Say():
                if responder is not None:
                    responder.interrupt("barge_in")
            case _:
                pass
        return [item]

    def _check(self, taken: bool, item: AudioChunk | Command) -> None:
        if not taken and not isinstance(item, Finish):  # that it has ended is then all the better
            why = self._failure or "its block was left"
            raise StageError(f"the conversation has ended ({why}); open another")

    def feed(self, source: AsyncIterable[AudioChunk]) -> None:
        """Push a whole source and finish, in a task of this conversation's own."""
        self._sources.append(source)
        if self._tasks is not None:
            self._tasks.create_task(self._feed(self._sources.pop()), name="feed")

    async def say(self, text: str) -> None:
        """Type a turn instead of speaking it."""
        await self.push(Say(self.next_turn(), text))

    async def finish(self) -> None:
        """No more audio comes."""
        await self.push(Finish())

    # What it says

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ev.Event:
        event = await self._outbox.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def _feed(self, source: AsyncIterable[AudioChunk]) -> None:
        async for chunk in source:
            await self.push(chunk)
        await self.push(Finish())

    async def _converse(self) -> None:
        last: list[ev.Event] = []
        try:
            try:
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    tasks.create_task(self._listen(), name="listen")
                    if self._responder is not None:
                        tasks.create_task(self._responder.run(), name="respond")
                    while self._sources:
                        tasks.create_task(self._feed(self._sources.pop()), name="feed")
            except Exception as error:
                self._failure = failure = as_textpro_error(error)
                # The event tells the person; where an unexpected error came from is for us.
                log.info("conversation failed", exc_info=failure.__cause__ or failure)
                at = self._listener.position
                last.append(ev.Failed(self._turn, at, ev.failure_code(failure), str(failure)))
            last.append(self._finished())
        finally:
            self._tasks = None
            self._inbox.shut()
            self._context.device.afterwards(Control(self._listener, "clear"))  # give memory back
            await self._outbox.close(*last)

    async def _listen(self) -> None:
        while not isinstance(taken := await self._inbox.take(), Finish):
            if isinstance(taken, list):
                await self._hear(taken)
            else:
                await self._obey(taken)
        await self._step(Control(self._listener, "finish"))
        if self._responder is not None:
            await self._responder.end()

    async def _hear(self, frames: list[AudioChunk]) -> None:
        while frames:
            await self._step(Push(self._listener, frames, self._interruptible, self._end))
            frames = [frame for frame in frames if frame.end > self._listener.taken]
        if self._live and self._inbox.since is not None:  # else it is as late as it likes
            now = self._clock.now()
            self._context.lateness.note(now, now - self._inbox.since)

    @property
    def _interruptible(self) -> bool:
        """A reply is being heard that speech may stop."""
        audience = self._context.audience
        if self._responder is None or not (audience.listens and audience.may_interrupt):
            return False
        return self._responder.player.state.replying

    async def _obey(self, command: Command) -> None:
        match command:
            case Press():
                await self._step(Control(self._listener, "press"))
            case Release():
                await self._step(Control(self._listener, "release"))
            case Clear():
                turn = self._followed[0]
                await self._step(Control(self._listener, "clear"))
                await self._tell(Close(OpenTurn(turn), TurnMarks(), replies=False))
            case Say(turn=turn, text=text):
                await self._answer_typed(turn, text)
            case Respond(turn=turn) | Announce(turn=turn):
                if self._responder is not None:
                    self._responder.expect(turn, pressing=True)
                await self._tell(Asked(command, self._marks_from_now()))
            case Configure():
                await self._configure(command)
            case Add() | Remove() | Truncate() | Rest():
                await self._tell(command)
            case Interrupt() | Played() | Finish():
                raise AssertionError("these do not wait")
            case _:
                assert_never(command)

    async def _configure(self, command: Configure) -> None:
        if command.turn is not None:
            await self._context.device.run(SetRules(self._listener, command.turn))
            self._context.audience.may_interrupt = command.turn.barge_in
        if command.replies is not None:
            self._answering = command.replies and self._responder is not None
        await self._tell(command)

    async def _step(self, step: Step[Listened]) -> None:
        """A step of the listener, and what comes of it. One that fails costs the open turn."""
        device = self._context.device
        try:
            listened = await device.run(step)
        except Exception as error:
            self._lost += 1
            self._context.health.failed("asr")
            failure = as_textpro_error(error)
            if self._lost >= LOST_TURNS:
                raise failure from error
            log.warning("turn lost: the recognizer failed (%s)", type(error).__name__)
            await self._context.fail(self._turn, "asr", failure)
            listened = await device.run(Control(self._listener, "abandon"))
        await self._act(listened)

    async def _act(self, listened: Listened) -> None:
        """Pass on what the listener brought, in its order."""
        if self._responder is not None:
            for signal in listened.barged:
                if signal == "stop":
                    self._responder.interrupt("barge_in")
                else:
                    turn, at = self._responder.player.state.turn, self._listener.position
                    await self._outbox.put(ev.ReplyDucked(turn, at, signal == "duck"))
        for event in listened.events:
            self._turn = max(self._turn, event.turn)
            match event:
                case ev.TurnEager() | ev.TurnResumed():
                    if self._answering:
                        await self._outbox.put(event)
                        if isinstance(event, ev.TurnEager):
                            self._trace.moment("eager")
                case ev.TurnEnded() if listened.turn is not None:
                    await self._end_turn(event, listened.turn)
                case _:
                    await self._outbox.put(event)
        if listened.open is not None:
            await self._follow(*listened.open)

    async def _follow(self, turn: OpenTurn, marks: TurnMarks) -> None:
        """Tell the responder how the open turn stands, if that is news."""
        if not has_words(turn.text):  # marks and noises alone are nothing that anybody said
            turn = OpenTurn(turn.number)
        turn = replace(turn, over=turn.over and self._answering)
        state = turn.number, turn.text, turn.over, turn.named
        if state == self._followed or not (turn.text or self._followed[1]):
            return
        self._followed = state
        await self._tell(Follow(turn, marks))

    async def _answer_typed(self, turn: int, text: str) -> None:
        await self._step(Control(self._listener, "release"))  # what was being spoken has ended
        replies = self._answering and has_words(text)
        marks = self._marks_from_now()
        if self._responder is not None and replies:
            self._responder.expect(turn)
        self._turn = max(self._turn, turn)
        await self._outbox.put(ev.TurnEnded(turn, self._listener.position, text, "typed", replies))
        if has_words(text):
            typed = OpenTurn(turn, (TokenSpan((), text, 0, 0, 0.0, None),), over=True)
            await self._tell(Close(typed, marks, replies))

    def _marks_from_now(self) -> TurnMarks:
        """Marks of a turn that ends here, with no audio."""
        marks, now, at = TurnMarks(), self._clock.now(), self._listener.position
        self._arrivals.stamp(at, now)
        marks.decide(now, at, at, self._arrivals)
        return marks

    async def _end_turn(self, event: ev.TurnEnded, turn: SpokenTurn) -> None:
        self._trace.moment(f"endpoint: {event.reason}")
        marks = turn.marks
        if not self._live:  # waiting to be taken is no delay that anybody felt
            self._arrivals.restart(turn.ended_at, turn.decided)
        marks.decide(turn.decided, turn.ended_at, turn.speech_end, self._arrivals)
        said = has_words(event.transcript) and event.reason not in ("failed", "unclear")
        if event.reason != "failed":
            self._lost = 0
            if said:
                self._context.health.worked("asr")
            if self._is_echo(event.transcript, turn):
                event, said = replace(event, reason="echo"), False
        answers = self._answering and not self._is_backchannel(event.transcript)
        event = replace(event, replies=said and answers)
        if self._responder is not None and event.replies:
            self._responder.expect(event.turn)
        await self._outbox.put(event)
        words = turn.as_open(over=event.replies) if said else OpenTurn(event.turn)
        self._followed = (event.turn, "", False, UNSURE)
        await self._tell(Close(words, marks, event.replies))
        if said and (self._responder is None or not event.replies):
            await self._outbox.put(ev.TurnLatency(event.turn, event.at, marks.report()))

    def _is_echo(self, transcript: str, turn: SpokenTurn) -> bool:
        """The turn is our own reply, come back through the microphone."""
        if not self._live or self._responder is None:
            return False
        last = self._responder.player.last
        if last is None:
            return False
        began = self._arrivals.moment(turn.speech)
        return began <= last.over + ECHO_S and echoes(transcript, last.text)

    def _is_backchannel(self, transcript: str) -> bool:
        """The turn only says "go on" to a reply that does: it wants no other."""
        return self._interruptible and is_backchannel(transcript)

    async def _tell(self, task: Task) -> None:
        if self._responder is None:
            return
        await self._responder.put(task)
        if not self._live and not isinstance(task, Follow):
            await self._responder.settled()  # nothing is decided while a reply is given

    def _finished(self) -> ev.Finished:
        audio_s = seconds(self._framer.end) or math.inf  # typed talk has no ratio to audio
        busy, totals = self._trace.busy, self._listener.totals
        kinds = {
            "encoder": ("encoder",),
            "decoder": ("decoder",),
            "llm": ("prefill", "decode"),
            "speech": ("speech",),
        }
        return ev.Finished(
            turn=self._turn,
            at=self._framer.end,
            turns=totals.turns,
            words=totals.words,
            cpu_s=self._clock.cpu() - self._cpu,
            rtf={kind: sum(busy[k] for k in names) / audio_s for kind, names in kinds.items()},
            work=totals.figures(),
        )
