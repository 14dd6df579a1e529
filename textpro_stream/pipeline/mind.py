"""The answering half of a conversation: remembers words as they commit, drafts, replies.

There is one memory (the LLM's cache), so everything happens in the order in which it was said:
words of the next turn wait until the reply to the last one is over. A model that fails costs one
reply, not the conversation. Knows the audio clock only as a stamp; nothing here decides about
words or turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, assert_never

from textpro_stream.clock import Clock
from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Message, TokenSpan, Tool, ToolCall
from textpro_stream.errors import StageError, TextproError
from textpro_stream.events import (
    Failed,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ToolCalled,
    TurnLatency,
)
from textpro_stream.pipeline.device import DeviceThread, Priority
from textpro_stream.pipeline.doors import Dialoguing, Replying, Speaking
from textpro_stream.pipeline.ear import has_words
from textpro_stream.pipeline.failure import cause
from textpro_stream.pipeline.health import Health
from textpro_stream.pipeline.latency import TurnMarks
from textpro_stream.pipeline.orders import (
    REPLIES,
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
from textpro_stream.pipeline.playback import to_word
from textpro_stream.pipeline.reply import Reply
from textpro_stream.pipeline.trace import Trace

log = logging.getLogger(__name__)

MAX_ORDERS = 1024  # some five minutes of talk while one reply is being given
TRIES = 2  # of a reply of which nothing has been seen, with a fresh cache in between

T = TypeVar("T")
# Given the turn, the text of the reply that is to be remembered, and how much of it was heard.
Close = Callable[[int, str, int | None], Awaitable[None]]


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


class Mind:
    """One conversation's memory and voice.

    Args:
        open_dialogue: gives the LLM's side, its system prompt known; called on the device.
        voice: speaks the replies; None for text only.
        options: of the LLM, for this conversation.
        device: where the LLM runs.
        outbox: where events go.
        health: told of failures.
        trace: knows where the audio clock stands.
        clock: for marks and playback.
        listened: somebody hears the reply in real time and may interrupt it, so it lasts as long
            as its audio does.
    """

    def __init__(
        self,
        open_dialogue: Callable[[], Dialoguing],
        voice: Speaking | None,
        *,
        options: LlmOptions,
        device: DeviceThread,
        outbox: Outbox,
        health: Health,
        trace: Trace,
        clock: Clock,
        listened: bool,
    ) -> None:
        self._open_dialogue, self._device = open_dialogue, device
        self._outbox, self._health, self._trace, self._clock = outbox, health, trace, clock
        self._options, self._tools = options, tuple[Tool, ...]()
        self._voice, self._silent, self._speed = voice, False, 1.0
        self._listened = listened
        self._dialogue: Dialoguing
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue(MAX_ORDERS)
        self._expected: dict[int, str] = {}  # turns to be answered: "", or why not to
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._drafting = False  # the reply waits behind its gate
        self._spans: list[TokenSpan] = []  # of the open turn, remembered
        self._said = ""  # in the open turn, typed words included
        self._drafted = ""  # the turn's words as the draft has them
        self._unheard: list[TokenSpan] = []  # committed, but not a word yet
        self._before = 0  # tokens decoded before this draft
        self._stop: asyncio.Future[str]  # why the reply was stopped, once it was
        self._asked = 0  # replies that somebody asked for, not yet begun
        self._hurry = asyncio.Event()  # there are such: a reply is not heard out any longer
        self._marks: TurnMarks | None = None
        self._turn = 0  # of the last reply
        self.last: Said | None = None

    def expect(self, turn: int) -> None:
        """A reply to this turn will be ordered; `stop` counts for it from now on."""
        self._expected[turn] = ""

    async def order(self, order: Order) -> None:
        """What to do next. Orders are obeyed one after another."""
        if isinstance(order, REPLIES):
            self._expected.setdefault(order.turn, "")
        if isinstance(order, Respond | Announce):
            self._asked += 1
            self._hurry.set()
        await self._orders.put(order)

    async def end(self) -> None:
        """There is no more to come: nobody can interrupt, so no reply waits to be heard."""
        self._listened = False
        if self._reply is not None:
            self._reply.hurry()
        await self._orders.put(None)

    async def settled(self) -> None:
        """Wait until every order so far has been obeyed."""
        await self._orders.join()

    @property
    def replying(self) -> bool:
        """A reply is being given, or heard."""
        return self._reply is not None and not self._drafting and not self._stop.done()

    @property
    def turn(self) -> int:
        """Of the reply that is being given, or was last; 0 before the first."""
        return self._turn

    def heard(self, samples: int) -> None:
        """A player reports how much of the present reply has been heard."""
        if self._reply is not None:
            self._reply.playback.report(samples)

    def stop(self, reason: str) -> None:
        """End the reply that is being given, and those that are yet to come."""
        if self.replying:
            self._stop.set_result(reason)
        for turn in self._expected:
            self._expected[turn] = reason

    async def run(self) -> None:
        """Obey until the last order; leaves no task behind, and no memory.

        Raises:
            StageError: the LLM cannot be opened.
        """
        self._dialogue = await self._prefill(self._open_dialogue)
        try:
            await self._prefill(self._dialogue.begin)
            while (order := await self._orders.get()) is not None:
                try:
                    await self._obey(order)
                except Exception as error:
                    await self._survive(order.turn, error)
                self._orders.task_done()
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
            with suppress(RuntimeError):  # the engine was left first
                self._device.submit(Priority.PREFILL, self._dialogue.free)

    async def _obey(self, order: Order) -> None:
        match order:
            case Hear(spans=spans):
                self._unheard += spans
                # Marks and noises alone are nothing that anybody said; they wait for a word.
                if has_words("".join(span.text for span in self._unheard)):
                    heard, self._unheard = self._unheard, []
                    self._spans += heard
                    self._said += "".join(span.text for span in heard)
                    await self._remember(partial(self._dialogue.hear, heard), order.turn)
            case Pause(turn=turn, tail=tail, marks=marks):
                await self._draft(turn, (*self._unheard, *tail), marks)
            case Resume():
                await self._drop_draft()
            case Say(turn=turn, text=text):
                self._said += text
                await self._remember(partial(self._dialogue.say, text), turn)
            case Answer(turn=turn, marks=marks):
                await self._give(
                    turn, marks, partial(self._draft, turn, (), marks), self._close_turn
                )
            case Keep(turn=turn):
                await self._drop_draft()
                await self._prefill(partial(self._dialogue.end_turn, user=f"u{turn}"))
                await self._tidy()
            case Dismiss():
                await self._drop_draft()
                self._forget_words()
                await self._prefill(self._dialogue.begin)
            case Respond():
                self._begun()
                await self._respond(order)
            case Announce(turn=turn, text=text, marks=marks):
                self._begun()
                await self._apart(turn, marks, Recital(text), remember=True)
            case Configure():
                await self._configure(order)
            case Add(message=message, after=after):
                await self._change(partial(self._dialogue.add, message, after), order.turn)
            case Remove(message_id=message_id):
                await self._change(partial(self._dialogue.remove, message_id), order.turn)
            case Truncate(message_id=message_id, characters=characters):
                step = partial(self._dialogue.truncate, message_id, characters)
                await self._change(step, order.turn)
            case Rest():
                await self._prefill(self._dialogue.free)
            case _:
                assert_never(order)

    async def _survive(self, turn: int, error: Exception) -> None:
        """A step failed: tell, drop what was being drafted, and begin with a fresh cache."""
        self._health.failed("llm")
        failure = cause(error)
        log.warning("turn %d: the LLM failed (%s)", turn, type(error).__name__)
        await self._outbox.put(Failed(turn, self._trace.position, "llm", str(failure)))
        self._drafting = False
        self._reply = None
        with suppress(TextproError):
            await self._end_task()
        await self._prefill(self._dialogue.free)

    def _begun(self) -> None:
        self._asked -= 1
        if not self._asked:
            self._hurry.clear()

    async def _configure(self, order: Configure) -> None:
        if order.voice is not None:
            self._silent = not order.voice
        if order.speed is not None:
            self._speed = order.speed
        if order.llm is not None or order.tools is not None:
            self._options = order.llm or self._options
            self._tools = self._tools if order.tools is None else tuple(order.tools)
            step = partial(self._dialogue.configure, self._options, self._tools)
            await self._change(step, order.turn)

    async def _change(self, step: Callable[[], None], turn: int) -> None:
        """Change the memory: a draft was made from another one."""
        await self._drop_draft()
        await self._remember(step, turn)

    async def _respond(self, order: Respond) -> None:
        """Reply to the memory, the open turn left out."""
        options, turn = order.options, order.turn
        llm, tools = self._options, self._tools
        if options.instructions is not None:
            llm = replace(llm, system_prompt=options.instructions)
        if options.max_tokens is not None:
            llm = replace(llm, max_tokens=options.max_tokens)
        if options.tools is not None:
            tools = options.tools
        silent, self._silent = self._silent, self._silent_for(options.voice)
        try:
            if options.messages is not None or not options.remember:
                messages = options.messages
                if messages is None:
                    messages = self._dialogue.messages
                side = await self._prefill(partial(self._dialogue.aside, messages, llm, tools))
                try:
                    await self._apart(turn, order.marks, side, remember=options.remember)
                finally:
                    await self._prefill(side.free)
                return
            await self._drop_draft()
            open_turn, said = self._spans, self._said
            self._spans, self._said = [], ""
            if open_turn:
                await self._prefill(self._dialogue.begin)
            changed = (llm, tools) != (self._options, self._tools)
            if changed:
                await self._prefill(partial(self._dialogue.configure, llm, tools))
            prepare = partial(self._draft, turn, (), order.marks)
            try:
                await self._give(turn, order.marks, prepare, self._close_turn)
            finally:
                self._spans, self._said = open_turn, said
                if changed:
                    back = partial(self._dialogue.configure, self._options, self._tools)
                    await self._prefill(back)
                if open_turn:
                    await self._prefill(partial(self._dialogue.hear, open_turn))
        finally:
            self._silent = silent

    def _silent_for(self, voice: bool | None) -> bool:
        return self._silent if voice is None else not voice

    async def _apart(
        self, turn: int, marks: TurnMarks, source: Replying, *, remember: bool
    ) -> None:
        """Give a reply that does not come from the conversation's own memory."""
        await self._drop_draft()

        async def prepare() -> None:
            self._begin_reply(turn, source, marks)

        async def close(turn: int, text: str, heard: int | None) -> None:
            if remember and (text or source.calls):
                message = Message(f"a{turn}", "assistant", text, source.calls)
                await self._prefill(partial(self._dialogue.add, message))

        await self._give(turn, marks, prepare, close)

    async def _close_turn(self, turn: int, text: str, heard: int | None) -> None:
        """The turn and its reply become memory."""
        step = partial(self._dialogue.end_turn, heard, user=f"u{turn}", reply=f"a{turn}")
        await self._prefill(step)
        await self._tidy()

    async def _tidy(self) -> None:
        self._forget_words()
        if self._dialogue.needs_room():
            await self._prefill(self._dialogue.make_room)

    def _forget_words(self) -> None:
        self._spans, self._unheard, self._said = [], [], ""

    async def _draft(self, turn: int, tail: Sequence[TokenSpan], marks: TurnMarks) -> None:
        """Be ready to reply to all that was said, `tail` included, and begin behind the gate."""
        drafted = self._said + "".join(span.text for span in tail)
        if self._reply is not None and drafted == self._drafted and not _failed(self._task):
            return  # words were committed as they had been drafted
        await self._drop_draft(forget=False)
        before, self._drafted = self._dialogue.tokens_decoded, drafted
        marks.note("last_commit", self._clock.now())
        await self._remember(partial(self._dialogue.draft, tail), turn)
        marks.note("llm_ready", self._clock.now())
        self._before, self._drafting = before, True
        self._begin_reply(turn, self._dialogue, marks)

    def _begin_reply(self, turn: int, source: Replying, marks: TurnMarks) -> None:
        self._marks, self._turn = marks, turn
        self._stop = asyncio.get_running_loop().create_future()
        self._reply = Reply(
            turn,
            source,
            None if self._silent else self._voice,
            speed=self._speed,
            listened=self._listened,
            device=self._device,
            emit=self._outbox.put,
            marks=marks,
            health=self._health,
            trace=self._trace,
            clock=self._clock,
        )
        self._task = asyncio.create_task(self._reply.run(), name=f"reply {turn}")

    async def _drop_draft(self, *, forget: bool = True) -> None:
        """The speaker went on: what was drafted is counted as waste and forgotten."""
        if not self._drafting or self._reply is None or self._marks is None:
            return
        reply, self._reply, self._drafting = self._reply, None, False
        try:
            await self._end_task()
        except TextproError:  # a draft that failed is dropped all the same
            self._health.failed("llm")
            await self._prefill(self._dialogue.free)
        self._marks.wasted_tokens += self._dialogue.tokens_decoded - self._before
        self._marks.wasted_speech_s += reply.drafted_speech_s
        self._marks.forget("last_commit", "llm_ready", "first_token", "first_clause", "tts_first")
        if forget:
            await self._prefill(self._dialogue.resume)

    async def _give(
        self, turn: int, marks: TurnMarks, prepare: Callable[[], Awaitable[None]], close: Close
    ) -> None:
        """Make a reply, open its gate, and stay until it has been given or stopped."""
        for tries_left in reversed(range(TRIES)):
            failure = await self._try(turn, prepare)
            if failure is None:
                break
            self._health.failed("llm")
            log.warning("turn %d: the LLM failed; it gets a fresh cache", turn)
            await self._prefill(self._dialogue.free)
            text = self._reply.text if self._reply is not None and self._reply.given else ""
            if text or not tries_left:
                await self._fail(turn, text, marks, failure)
                await close(turn, text, len(text))
                break
        else:
            raise AssertionError("the last try ends the loop")
        if failure is None and (reply := self._reply) is not None:
            text, heard = await self._conclude(reply, marks)
            await close(turn, text, heard)
        self._expected.pop(turn, None)
        self._reply = self._task = None

    async def _try(self, turn: int, prepare: Callable[[], Awaitable[None]]) -> TextproError | None:
        """Give a reply until it is complete or stopped, or give back why it failed."""
        try:
            await prepare()
        except Exception as error:
            self._reply = None
            return cause(error)
        reply, task = self._reply, self._task
        assert reply is not None
        assert task is not None
        self._drafting = False
        if why := self._expected.pop(turn, ""):  # stopped before it began
            self._stop.set_result(why)
        else:
            self._trace.moment("reply released")
            await reply.release()
        await _first(task, self._stop)
        return cause(task.exception()) if _failed(task) and not self._stop.done() else None

    async def _conclude(self, reply: Reply, marks: TurnMarks) -> tuple[str, int | None]:
        """The reply is complete, or was stopped: what of it is to be remembered."""
        turn, heard = reply.turn, None
        if not self._stop.done():
            self._health.worked("llm")
            if not reply.given:
                await self._outbox.put(ReplyStarted(turn, self._trace.position))
            for call in reply.source.calls:
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
        self.last = Said(text, self._clock.now())
        await self._outbox.put(TurnLatency(turn, self._trace.position, marks.report()))
        return text, heard

    async def _fail(self, turn: int, text: str, marks: TurnMarks, failure: TextproError) -> None:
        """The reply failed for good: what was given of it is what is remembered."""
        position = self._trace.position
        await self._outbox.put(Failed(turn, position, "llm", str(failure)))
        await self._outbox.put(ReplyEnded(turn, position, text, "failed"))
        await self._outbox.put(TurnLatency(turn, position, marks.report()))

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

    async def _prefill(self, step: Callable[[], T]) -> T:
        return await self._device.run(Priority.PREFILL, step)

    async def _remember(self, step: Callable[[], T], turn: int) -> T | None:
        """Give the LLM something to read; what it cannot take whole is told, and not the end."""
        try:
            return await self._prefill(step)
        except StageError as error:
            await self._outbox.put(Failed(turn, self._trace.position, error.code, str(error)))
            return None


def _failed(task: asyncio.Task[None] | None) -> bool:
    return (
        task is not None and task.done() and not task.cancelled() and task.exception() is not None
    )


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
