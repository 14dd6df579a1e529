"""The answering half of a conversation: remembers words as they commit, drafts, replies.

There is one memory (the LLM's cache), so everything happens in the order in which it was said:
words of the next turn wait until the reply to the last one is over. A model that fails costs one
reply, not the conversation. Knows the audio clock only as a stamp; nothing here decides about
words or turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar, assert_never

from textpro_stream.ports import Clock
from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Message, TokenSpan, Tool
from textpro_stream.errors import ConfigError, StageError, TextproError
from textpro_stream.events import Failed
from textpro_stream.runtime.device import DeviceThread, Priority
from textpro_stream.pipeline.doors import Dialoguing, Replying
from textpro_stream.pipeline.listener import has_words
from textpro_stream.pipeline.failure import cause
from textpro_stream.pipeline.reply_player import Giver, Recital
from textpro_stream.runtime.health import Health
from textpro_stream.telemetry.marks import TurnMarks
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

log = logging.getLogger(__name__)

MAX_ORDERS = 1024  # some five minutes of talk while one reply is being given

T = TypeVar("T")


class Mind:
    """One conversation's memory and voice.

    Args:
        open_dialogue: gives the LLM's side, its system prompt known; called on the device.
        giver: gives the replies.
        options: of the LLM, for this conversation.
        device: where the LLM runs.
        outbox: where events go.
        health: told of failures.
        trace: knows where the audio clock stands.
        clock: for marks and playback.
    """

    def __init__(
        self,
        open_dialogue: Callable[[], Dialoguing],
        giver: Giver,
        *,
        options: LlmOptions,
        device: DeviceThread,
        outbox: Outbox,
        health: Health,
        trace: Trace,
        clock: Clock,
    ) -> None:
        self._open_dialogue, self._device = open_dialogue, device
        self._outbox, self._health, self._trace, self._clock = outbox, health, trace, clock
        self._options, self._tools = options, tuple[Tool, ...]()
        self.giver = giver
        self._dialogue: Dialoguing
        self._opened = False
        self._orders: asyncio.Queue[Order | None] = asyncio.Queue(MAX_ORDERS)
        self._spans: list[TokenSpan] = []  # of the open turn, remembered
        self._said = ""  # in the open turn, typed words included
        self._drafted = ""  # the turn's words as the draft has them
        self._unheard: list[TokenSpan] = []  # committed, but not a word yet
        self._before = 0  # tokens decoded before this draft
        self._marks: TurnMarks | None = None  # of the draft

    @property
    def rows(self) -> int:
        """Rows of the LLM's cache that this conversation takes up now."""
        return self._dialogue.rows_cached if self._opened else 0

    async def order(self, order: Order) -> None:
        """What to do next. Orders are obeyed one after another."""
        if isinstance(order, Respond | Announce):
            self.giver.ask(order.turn)
        await self._orders.put(order)

    async def end(self) -> None:
        """There is no more to come."""
        self.giver.end()
        await self._orders.put(None)

    async def settled(self) -> None:
        """Wait until every order so far has been obeyed."""
        await self._orders.join()

    async def run(self) -> None:
        """Obey until the last order; leaves no task behind, and no memory.

        Raises:
            StageError: the LLM cannot be opened.
        """
        self._dialogue = await self._prefill(self._open_dialogue)
        self._opened = True
        try:
            await self._prefill(self._dialogue.begin)
            while (order := await self._orders.get()) is not None:
                try:
                    await self._obey(order)
                except Exception as error:
                    await self._survive(order, error)
                self._orders.task_done()
        finally:
            await self.giver.close()
            self._device.afterwards(Priority.PREFILL, self._dialogue.free)

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
                await self._answer(turn, marks)
            case Keep(turn=turn):
                await self._drop_draft()
                await self._prefill(partial(self._dialogue.end_turn, user=f"u{turn}"))
                await self._tidy()
            case Dismiss():
                await self._drop_draft()
                self._forget_words()
                await self._prefill(self._dialogue.begin)
            case Respond():
                self.giver.asked()
                await self._respond(order)
            case Announce(turn=turn, text=text, marks=marks):
                self.giver.asked()
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
                if self.giver.gated is None:  # else somebody has just spoken
                    await self._free()
            case _:
                assert_never(order)

    async def _survive(self, order: Order, error: Exception) -> None:
        """A step failed: tell, drop what was being drafted, and begin with a fresh cache."""
        failure = cause(error)
        if failure.__cause__ is not None:  # else it is an answer to what was asked, no fault
            self._health.failed("llm")
        log.warning("turn %d: the LLM failed (%s)", order.turn, type(error).__name__)
        await self.giver.close()
        if isinstance(order, Answer | Respond | Announce) and self.giver.ended != order.turn:
            await self.giver.fail(order.turn, "", order.marks, failure)
        else:
            await self._outbox.put(Failed(order.turn, self._trace.position, "llm", str(failure)))
        await self._free()

    async def _answer(self, turn: int, marks: TurnMarks) -> None:
        """Reply to the open turn, or to the memory; both become memory."""
        prepare = partial(self._draft, turn, (), marks)
        given = await self.giver.give(turn, marks, prepare=prepare, recover=self._free)
        ids, called = {"user": f"u{turn}", "reply": f"a{turn}"}, bool(given.called)
        step = partial(self._dialogue.end_turn, given.heard, called=called, **ids)
        await self._prefill(step)
        await self._tidy()

    async def _free(self) -> None:
        await self._prefill(self._dialogue.free)

    async def _configure(self, order: Configure) -> None:
        if order.voice is not None:
            self.giver.silent = not order.voice
        if order.speed is not None:
            self.giver.speed = order.speed
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
        silent = self.giver.silent
        if options.voice is not None:
            self.giver.silent = not options.voice
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
            try:
                await self._answer(turn, order.marks)
            finally:
                self._spans, self._said = open_turn, said
                if changed:
                    back = partial(self._dialogue.configure, self._options, self._tools)
                    await self._prefill(back)
                if open_turn:
                    await self._prefill(partial(self._dialogue.hear, open_turn))
        finally:
            self.giver.silent = silent

    async def _apart(
        self, turn: int, marks: TurnMarks, source: Replying, *, remember: bool
    ) -> None:
        """Give a reply that does not come from the conversation's own memory."""
        await self._drop_draft()

        async def prepare() -> None:
            self.giver.begin(turn, source, marks)

        given = await self.giver.give(turn, marks, prepare=prepare, recover=self._free)
        if remember and (given.text or given.called):
            message = Message(f"a{turn}", "assistant", given.text, given.called)
            await self._prefill(partial(self._dialogue.add, message))

    async def _tidy(self) -> None:
        self._forget_words()
        if self._dialogue.needs_room():
            await self._prefill(self._dialogue.make_room)

    def _forget_words(self) -> None:
        self._spans, self._unheard, self._said = [], [], ""

    async def _draft(self, turn: int, tail: Sequence[TokenSpan], marks: TurnMarks) -> None:
        """Be ready to reply to all that was said, `tail` included, and begin behind the gate."""
        drafted = self._said + "".join(span.text for span in tail)
        if self.giver.gated is not None and drafted == self._drafted:
            return  # words were committed as they had been drafted
        await self._drop_draft(forget=False)
        before, self._drafted = self._dialogue.tokens_decoded, drafted
        marks.note("last_commit", self._clock.now())
        await self._remember(partial(self._dialogue.draft, tail), turn)
        marks.note("llm_ready", self._clock.now())
        self._before, self._marks = before, marks
        self.giver.begin(turn, self._dialogue, marks)

    async def _drop_draft(self, *, forget: bool = True) -> None:
        """The speaker went on: what was drafted is counted as waste and forgotten."""
        try:
            reply = await self.giver.drop()
        except TextproError:
            self._health.failed("llm")
            return await self._free()
        if reply is None or self._marks is None:
            return
        self._marks.wasted_tokens += self._dialogue.tokens_decoded - self._before
        self._marks.wasted_speech_s += reply.drafted_speech_s
        self._marks.forget("last_commit", "llm_ready", "first_token", "first_clause", "tts_first")
        if forget:
            await self._prefill(self._dialogue.resume)

    async def _prefill(self, step: Callable[[], T]) -> T:
        return await self._device.run(Priority.PREFILL, step)

    async def _remember(self, step: Callable[[], T], turn: int) -> T | None:
        """Give the LLM something to read; what it cannot take whole is told, and not the end."""
        try:
            return await self._prefill(step)
        except (ConfigError, StageError) as error:  # too long for the context, an unknown id
            await self._outbox.put(Failed(turn, self._trace.position, error.code, str(error)))
            return None
