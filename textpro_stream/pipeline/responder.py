"""The answering half of a conversation: keeps the LLM where the talk is, drafts, replies.

There is one memory, so everything happens in the order in which it was said: words of the next
turn wait until the reply to the last one is over. What waits are values; a newer state of the same
turn takes the place of an older one. A model that fails costs one reply, not the conversation.
Knows the audio clock only as a stamp; nothing here decides about words or turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import assert_never

from textpro_stream.commands import (
    Add,
    Announce,
    Configure,
    InterruptReason,
    Remove,
    Respond,
    Rest,
    Truncate,
)
from textpro_stream.contracts import (
    Delta,
    GenerationEnd,
    Message,
    OpenTurn,
    ReplyOptions,
    TextDelta,
)
from textpro_stream.errors import ConfigError, StageError, TextproError, as_textpro_error
from textpro_stream.events import failure_code
from textpro_stream.pipeline.context import ConversationContext
from textpro_stream.pipeline.reply_player import ReplyPlayer
from textpro_stream.ports import Dialogue
from textpro_stream.telemetry.marks import DRAFTED, TurnMarks

log = logging.getLogger(__name__)

MAX_WAITING = 1024  # tasks: some five minutes of talk while one reply is being given
NOTHING_SAID = OpenTurn(0)


@dataclass(frozen=True, slots=True)
class Follow:
    """How the open turn stands."""

    turn: OpenTurn
    marks: TurnMarks


@dataclass(frozen=True, slots=True)
class Close:
    """A turn is over: reply, or only remember it; one without words is forgotten."""

    turn: OpenTurn
    marks: TurnMarks
    replies: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A reply that is no turn's."""

    command: Respond | Announce
    marks: TurnMarks


Task = Follow | Close | Asked | Configure | Add | Remove | Truncate | Rest


class Responder:
    """One conversation's memory and voice.

    Args:
        open_dialogue: gives the LLM's side.
        player: gives the replies.
        context: of the conversation.
    """

    def __init__(
        self,
        open_dialogue: Callable[[], Dialogue],
        player: ReplyPlayer,
        context: ConversationContext,
    ) -> None:
        self.player = player
        self._open_dialogue, self._context = open_dialogue, context
        self._dialogue: Dialogue | None = None
        self._waiting: deque[Task] = deque()
        self._changed = asyncio.Condition()
        self._busy, self._ended = False, False
        self._open = NOTHING_SAID  # what was said after the last turn that was closed
        self._turn = 0  # the last one that a task was about
        # Words and tone of the draft, and its turn's marks.
        self._drafted: tuple[str, str, TurnMarks] | None = None

    @property
    def tokens_cached(self) -> int:
        """Rows of the LLM's cache that this conversation takes up now."""
        return self._dialogue.tokens_cached if self._dialogue is not None else 0

    def expect(self, turn: int, *, pressing: bool = False) -> None:
        """A task that replies to this turn is on its way; see `ReplyMachine.ask`."""
        self.player.ask(turn, pressing=pressing)

    def interrupt(self, reason: InterruptReason, turn: int | None = None) -> None:
        """At once: stop the reply being given and those on their way, or the one to `turn`."""
        self.player.interrupt(reason, turn)

    async def put(self, task: Task) -> None:
        """What to do next; waits while too much waits already."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._waiting) < MAX_WAITING)
            last = self._waiting[-1] if self._waiting else None
            if (
                isinstance(task, Follow)
                and isinstance(last, Follow)
                and last.turn.number == task.turn.number
            ):
                self._waiting.pop()  # it stands no longer so
            self._waiting.append(task)
            self._changed.notify_all()

    async def end(self) -> None:
        """There is no more to come, and nobody who could interrupt."""
        self._context.audience.listens = False
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def settled(self) -> None:
        """Wait until all tasks so far are done."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._waiting and not self._busy)

    async def run(self) -> None:
        """Work until the end; leaves no task behind, and no memory.

        Raises:
            TextproError: the LLM cannot be opened.
        """
        self._dialogue = dialogue = self._open_dialogue()
        try:
            await dialogue.follow(NOTHING_SAID)
            while (task := await self._next()) is not None:
                try:
                    await self._do(task)
                except Exception as error:
                    await self._survive(task, error)
        finally:
            await self.player.close()
            with suppress(TextproError):
                await dialogue.close()

    async def _next(self) -> Task | None:
        async with self._changed:
            self._busy = False
            self._changed.notify_all()
            await self._changed.wait_for(lambda: bool(self._waiting) or self._ended)
            if not self._waiting:
                return None
            self._busy = True
            return self._waiting.popleft()

    @property
    def _llm(self) -> Dialogue:
        assert self._dialogue is not None, "opened by `run`"
        return self._dialogue

    async def _do(self, task: Task) -> None:
        match task:
            case Follow(turn=turn, marks=marks):
                self._open, self._turn = turn, turn.number
                await self._follow(turn, marks)
            case Close(turn=turn, marks=marks, replies=replies):
                await self._close(turn, marks, replies=replies)
            case Asked(command=command, marks=marks):
                self._turn = command.turn
                self.player.start(command.turn)
                if isinstance(command, Respond):
                    await self._respond(command.turn, command.options, marks)
                else:
                    await self._announce(command, marks)
            case Configure(voice=voice, speed=speed, llm=llm, tools=tools):
                self.player.silent = self.player.silent if voice is None else not voice
                self.player.speed = self.player.speed if speed is None else speed
                if llm is not None or tools is not None:
                    await self._edit(task)
            case Add() | Remove() | Truncate():
                await self._edit(task)
            case Rest():
                if not self.player.held:  # else somebody has just spoken
                    await self._llm.rest()
            case _:
                assert_never(task)

    async def _survive(self, task: Task, error: Exception) -> None:
        """A task failed: tell, drop what was being drafted, and begin with a fresh cache."""
        failure = as_textpro_error(error)
        if failure.__cause__ is not None:  # else it is an answer to what was asked, no fault
            self._context.health.failed("llm")
        log.warning("the LLM failed (%s)", type(error).__name__)
        state = self.player.state
        await self.player.close()
        self._drafted = None
        turn = self._turn
        owed = isinstance(task, Asked) or (isinstance(task, Close) and task.replies)
        if owed and not (state.state == "ended" and state.turn == turn):
            assert isinstance(task, Asked | Close)
            await self.player.fail(turn, "", task.marks, failure)
        else:
            await self._context.fail(turn, "llm", failure)
        await self._llm.rest()

    async def _follow(self, turn: OpenTurn, marks: TurnMarks) -> None:
        """Be where the open turn is; where it may be over, draft a reply to all that was said."""
        if not turn.over:
            await self._drop_draft()
            await self._read(turn)
        else:
            await self._draft(turn, marks)

    async def _draft(
        self,
        turn: OpenTurn,
        marks: TurnMarks,
        options: ReplyOptions | None = None,
    ) -> None:
        """Be ready to reply to all that was said, and begin."""
        wanted = turn.text, turn.named, marks
        if self.player.held and self._drafted == wanted:
            await self._read(turn)  # words were committed as they had been drafted
            return
        await self._drop_draft()
        clock = self._context.clock
        marks.note("last_commit", clock.now())
        options = options or ReplyOptions()
        if not options.aside:
            await self._read(turn)
        marks.note("llm_ready", clock.now())
        self._drafted = wanted
        deltas = self._llm.reply(turn.number, options)
        self.player.begin(turn.number, deltas, marks, voice=options.voice)

    async def _drop_draft(self) -> None:
        """The speaker went on: what was drafted is counted as waste and forgotten."""
        drafted, self._drafted = self._drafted, None
        try:
            reply = await self.player.drop()
        except TextproError:
            self._context.health.failed("llm")
            return await self._llm.rest()
        if reply is not None and drafted is not None:
            *_, marks = drafted
            marks.wasted_tokens += reply.tokens
            marks.wasted_speech_s += reply.drafted_speech_s
            marks.forget(*DRAFTED)

    async def _close(self, turn: OpenTurn, marks: TurnMarks, *, replies: bool) -> None:
        self._open, self._turn = NOTHING_SAID, turn.number
        if replies:
            await self._reply(turn, marks)
        else:
            await self._drop_draft()
            await self._read(turn)
            if turn.spans:
                await self._llm.close_turn(None)

    async def _reply(
        self, turn: OpenTurn, marks: TurnMarks, options: ReplyOptions | None = None
    ) -> None:
        """Reply to a turn, or without its words to what is remembered; both are remembered."""

        async def draft() -> None:
            await self._draft(turn, marks, options)

        playout = await self.player.give(turn.number, marks, draft=draft, recover=self._llm.rest)
        self._drafted = None
        await self._llm.close_turn(playout)

    async def _respond(self, turn: int, options: ReplyOptions, marks: TurnMarks) -> None:
        """Reply to what is remembered; the open turn is left out, and goes on afterwards."""
        await self._drop_draft()
        try:
            await self._reply(OpenTurn(turn, over=True), marks, options)
        finally:
            if self._open.spans:
                await self._read(replace(self._open, tail=(), over=False))

    async def _announce(self, command: Announce, marks: TurnMarks) -> None:
        """Say words that are known, and remember them as a reply."""
        await self._drop_draft()
        turn, text = command.turn, command.text

        async def draft() -> None:
            self.player.begin(turn, _recital(text), marks)

        playout = await self.player.give(turn, marks, draft=draft, recover=self._llm.rest)
        said = text if playout.characters is None else text[: playout.characters]
        if said:
            await self._llm.edit(Add(Message(f"a{turn}", "assistant", said)))

    async def _edit(self, change: Configure | Add | Remove | Truncate) -> None:
        """Change what is remembered; a draft was made from another memory."""
        await self._drop_draft()
        try:
            await self._llm.edit(change)
        except (ConfigError, StageError) as error:
            await self._context.fail(self._turn, failure_code(error), error)

    async def _read(self, turn: OpenTurn) -> None:
        """Have the LLM read words; what it cannot take whole is told, and not the end."""
        try:
            await self._llm.follow(turn)
        except (ConfigError, StageError) as error:
            if error.__cause__ is not None:
                raise
            await self._context.fail(turn.number, failure_code(error), error)


async def _recital(text: str) -> AsyncGenerator[Delta, None]:
    """Known words as a reply, so that they are spoken clause by clause like any other."""
    for i, word in enumerate(text.split(" ")):
        yield TextDelta(" " * (i > 0) + word)
    yield GenerationEnd("stop")
