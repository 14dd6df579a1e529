"""The answering half of a conversation: remembers words as they commit, drafts, replies.

There is one memory (the LLM's cache), so everything happens in the order in which it was said:
words of the next turn wait until the reply to the last one is over. Knows the audio clock only as a
stamp; nothing here decides about words or turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from textpro_stream.clock import Clock
from textpro_stream.contracts import TokenSpan
from textpro_stream.errors import StageError
from textpro_stream.events import Failed, ReplyEnded, ReplyStarted, TurnLatency
from textpro_stream.pipeline.device import DeviceThread, Priority
from textpro_stream.pipeline.doors import Dialoguing, Speaking
from textpro_stream.pipeline.ear import has_words
from textpro_stream.pipeline.failure import cause
from textpro_stream.pipeline.latency import TurnMarks
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.pipeline.playback import to_word
from textpro_stream.pipeline.reply import Reply
from textpro_stream.pipeline.trace import Trace

MAX_ORDERS = 1024  # some five minutes of talk while one reply is being given


@dataclass(frozen=True, slots=True)
class Hear:
    """Words were committed."""

    turn: int
    spans: Sequence[TokenSpan]


@dataclass(frozen=True, slots=True)
class Pause:
    """The turn may be over, with these words after the committed ones."""

    turn: int
    tail: Sequence[TokenSpan]
    marks: TurnMarks


@dataclass(frozen=True, slots=True)
class Resume:
    """It was not over."""

    turn: int


@dataclass(frozen=True, slots=True)
class Say:
    """Words were typed."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """It is over: reply."""

    turn: int
    marks: TurnMarks


@dataclass(frozen=True, slots=True)
class Dismiss:
    """It is over and held no words."""

    turn: int


Order = Hear | Pause | Resume | Say | Answer | Dismiss
T = TypeVar("T")


class Mind:
    """One conversation's memory and voice.

    Args:
        open_dialogue: gives the LLM's side, its system prompt known; called on the device.
        voice: speaks the replies; None for text only.
        device: where the LLM runs.
        outbox: where events go.
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
        device: DeviceThread,
        outbox: Outbox,
        trace: Trace,
        clock: Clock,
        listened: bool,
    ) -> None:
        self._open_dialogue, self._voice, self._device = open_dialogue, voice, device
        self._outbox, self._trace, self._clock = outbox, trace, clock
        self._listened = listened
        self._dialogue: Dialoguing
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue(MAX_ORDERS)
        self._reply: Reply | None = None
        self._task: asyncio.Task[None] | None = None
        self._drafting = False  # the reply waits behind its gate
        self._said = ""  # in the open turn
        self._drafted = ""  # the turn's words as the draft has them
        self._unheard: list[TokenSpan] = []  # committed, but not a word yet
        self._before = 0  # tokens decoded before this draft
        self._stop: asyncio.Future[str]  # why the reply was stopped, once it was
        self._marks: TurnMarks | None = None

    async def order(self, order: Order) -> None:
        """What to do next. Orders are obeyed one after another."""
        await self._orders.put(order)

    async def end(self) -> None:
        """There is no more to come: nobody can interrupt, so no reply waits to be heard."""
        self._listened = False
        await self._orders.put(None)

    async def settled(self) -> None:
        """Wait until every order so far has been obeyed."""
        await self._orders.join()

    @property
    def replying(self) -> bool:
        """A reply is being given, or heard."""
        return self._reply is not None and not self._drafting and not self._stop.done()

    def heard(self, samples: int) -> None:
        """A player reports how much of the present reply has been heard."""
        if self._reply is not None:
            self._reply.playback.report(samples)

    def stop(self, reason: str) -> None:
        """End the reply that is being given, if there is one."""
        if self.replying:
            self._stop.set_result(reason)

    async def run(self) -> None:
        """Obey until the last order; leaves no task behind.

        Raises:
            StageError: the LLM failed.
        """
        self._dialogue = await self._prefill(self._open_dialogue)
        await self._prefill(self._dialogue.begin)
        try:
            while (order := await self._orders.get()) is not None:
                await self._obey(order)
                self._orders.task_done()
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])

    async def _obey(self, order: Order) -> None:
        match order:
            case Hear(spans=spans):
                self._unheard += spans
                # Marks and noises alone are nothing that anybody said; they wait for a word.
                if has_words("".join(span.text for span in self._unheard)):
                    heard, self._unheard = self._unheard, []
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
                await self._draft(turn, (), marks)
                await self._answer(turn, marks)
            case Dismiss():
                self._unheard.clear()
                await self._drop_draft()

    async def _draft(self, turn: int, tail: Sequence[TokenSpan], marks: TurnMarks) -> None:
        """Be ready to reply to all that was said, `tail` included, and begin behind the gate."""
        drafted = self._said + "".join(span.text for span in tail)
        if self._reply is not None and drafted == self._drafted:
            return  # words were committed as they had been drafted
        await self._drop_draft(forget=False)
        before, self._drafted = self._dialogue.tokens_decoded, drafted
        await self._remember(partial(self._dialogue.draft, tail), turn)
        marks.note("last_commit", self._clock.now())
        marks.note("llm_ready", self._clock.now())
        self._before, self._drafting, self._marks = before, True, marks
        self._stop = asyncio.get_running_loop().create_future()
        self._reply = Reply(
            turn,
            self._dialogue,
            self._voice,
            device=self._device,
            emit=self._outbox.put,
            marks=marks,
            trace=self._trace,
            clock=self._clock,
        )
        self._task = asyncio.create_task(self._reply.run(), name=f"reply {turn}")

    async def _drop_draft(self, *, forget: bool = True) -> None:
        """The speaker went on: what was drafted is counted as waste and forgotten."""
        if not self._drafting or self._reply is None or self._marks is None:
            return
        reply, self._reply, self._drafting = self._reply, None, False
        await self._end_task()
        self._marks.wasted_tokens += self._dialogue.tokens_decoded - self._before
        self._marks.wasted_speech_s += reply.drafted_speech_s
        self._marks.forget("last_commit", "llm_ready", "first_token", "first_clause", "tts_first")
        if forget:
            await self._prefill(self._dialogue.resume)

    async def _answer(self, turn: int, marks: TurnMarks) -> None:
        """Open the gate, and stay until the reply has been given or stopped."""
        reply, task = self._reply, self._task
        assert reply is not None
        assert task is not None
        self._drafting = False
        self._trace.moment("reply released")
        await reply.release()
        await _first(task, self._stop)
        if task.done() and not task.cancelled() and task.exception() is not None:
            await self._outbox.put(self._ended(reply, reply.text, "failed"))
            raise cause(task.exception())
        await self._hear_out(reply)
        if not reply.text and not self._stop.done():
            await self._outbox.put(ReplyStarted(turn, self._trace.position))
        heard = None
        if self._stop.done():  # the loudspeaker first, then the memory
            reply.silence()
            await self._outbox.drop_reply(turn)
            text = reply.text
            if self._voice is not None:
                text = to_word(text, reply.playback.heard_characters(self._clock.now()))
                heard = len(text)
            await self._outbox.put(self._ended(reply, text, self._stop.result()))
            await self._end_task()
        else:
            await self._outbox.put(self._ended(reply, reply.text, self._dialogue.reason))
        await self._outbox.put(TurnLatency(turn, self._trace.position, marks.report()))
        await self._prefill(partial(self._dialogue.end_turn, heard))
        self._said = ""
        self._reply = self._task = None
        if self._dialogue.needs_room():
            await self._prefill(self._dialogue.make_room)

    async def _hear_out(self, reply: Reply) -> None:
        """With somebody listening, a reply lasts until its audio has been heard."""
        while self._listened and not self._stop.done():
            moment = self._clock.now()
            if reply.playback.is_over(moment):
                return
            wake = asyncio.create_task(
                self._clock.sleep_until(min(reply.playback.ends_at, moment + 0.1)), name="hear out"
            )
            try:
                await _first(wake, self._stop)
            finally:
                wake.cancel()
                await asyncio.wait([wake])

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

    def _ended(self, reply: Reply, text: str, reason: str) -> ReplyEnded:
        return ReplyEnded(reply.turn, self._trace.position, text, reason)


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
