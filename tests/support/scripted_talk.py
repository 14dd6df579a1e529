"""A `Talk` that keeps to a script: it hears loudness and says what it was told to say.

Memory and reports are as of the real one, which `test_real_conversation.py` puts in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Self, assert_never

import numpy as np
import torch

from textpro_stream.commands import (
    Add,
    Announce,
    Clear,
    Command,
    Configure,
    Finish,
    Interrupt,
    InterruptReason,
    Played,
    Press,
    Release,
    Remove,
    Respond,
    Rest,
    Say,
    Truncate,
)
from textpro_stream.config import LlmOptions, Settings, TurnOptions
from textpro_stream.contracts import (
    AudioChunk,
    Message,
    ReplyOptions,
    SpokenChunk,
    TokenSpan,
    Tool,
    ToolCall,
    samples_of_ms,
)
from textpro_stream.errors import StageError
from textpro_stream.events import (
    Event,
    Failed,
    Finished,
    HypothesisChanged,
    ReplyAudio,
    ReplyEnded,
    ReplyEndReason,
    ReplyGiven,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    ToolCalled,
    TurnEnded,
    TurnEndReason,
    TurnLatency,
    WordsCommitted,
)

RATE_HZ = 22_050
WORD = samples_of_ms(200)  # of voice that hold a word
BARGE_IN = samples_of_ms(300)


@dataclass
class Script:
    """What is said in every conversation, and what it left behind."""

    heard: Sequence[str] = (" What", " time", " is", " it?")
    reply: Sequence[str] = (" It", " is", " noon.")
    step_s: float = 0.0  # that each piece of a reply takes
    plays_s: float = 0.0  # that a reply goes on sounding after it was given
    call: ToolCall | None = None  # asked for once, in place of a reply, where it is offered
    talks: list[ScriptedTalk] = field(default_factory=list)

    def open(self, *, live: bool = True) -> ScriptedTalk:
        self.talks.append(ScriptedTalk(self))
        return self.talks[-1]

    def engine(self) -> Any:
        """As far as a route looks at it."""
        return SimpleNamespace(
            settings=Settings(),
            voice=SimpleNamespace(rate_hz=RATE_HZ),
            llm=SimpleNamespace(knows_tools=True),
            open=self.open,
            healthy=True,
            faults={},
            late_s=0.0,
        )


class ScriptedTalk:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._rules, self._answers, self._speaks = TurnOptions(), True, True
        self.llm, self.tools, self.speed = LlmOptions(), tuple[Tool, ...](), 1.0
        self.memory: list[Message] = []
        self.options: list[ReplyOptions] = []
        self.position = 0
        self._n_turns = 0
        self._open = False  # a turn
        self._turn = 0
        self._loud = self._quiet = self._words = 0
        self._asked: asyncio.Queue[tuple[int, ReplyOptions, Sequence[str]]] = asyncio.Queue()
        self._waiting: dict[int, InterruptReason | None] = {}  # asked for, or why it is not wanted
        self._replying = 0  # the turn
        self._giving: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def voice(self) -> float:
        return 0.0

    @property
    def tokens_cached(self) -> int:
        return 10 * len(self.memory)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._respond())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for task in (self._task, self._giving) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._events.get()
        if event is None:
            raise StopAsyncIteration
        return event

    def _say(self, *events: Event) -> None:
        for event in events:
            self._events.put_nowait(event)

    # What it is told

    def next_turn(self) -> int:
        self._n_turns += 1
        return self._n_turns

    async def push(self, item: AudioChunk | Command, /) -> None:
        self.push_nowait(item)

    def push_nowait(self, item: AudioChunk | Command, /) -> None:
        match item:
            case AudioChunk():
                self._hear(item)
            case Press():
                if not self._open:
                    self._begin()
            case Release():
                self._end("pushed")
            case Clear():
                self._open = False
            case Say(turn=turn, text=text):
                self._say(TurnEnded(turn, self.position, text, "typed", self._answers))
                self.memory.append(Message(f"u{turn}", "user", text))
                if self._answers:
                    self._reply(turn, ReplyOptions())
            case Respond(turn=turn, options=options):
                self.options.append(options)
                self._reply(turn, options)
            case Announce(turn=turn, text=text):
                self._reply(turn, ReplyOptions(), (text,))
            case Configure():
                self._configure(item)
            case Add() | Remove() | Truncate():
                try:
                    self._edit(item)
                except StageError as error:
                    self._say(Failed(self._turn, self.position, "stage", str(error)))
            case Interrupt(reason=reason, turn=turn):
                self._interrupt(reason, turn)
            case Played() | Rest():
                pass
            case Finish():
                self._say(Finished(self._turn, self.position, self._n_turns, 0, 0.0, {}, {}))
                self._events.put_nowait(None)
            case _:
                assert_never(item)

    # Hearing

    def _hear(self, chunk: AudioChunk) -> None:
        assert chunk.start == self.position, "audio without gaps"
        for start in range(0, len(chunk.samples), 320):
            self._frame(chunk.samples[start : start + 320])

    def _frame(self, samples: np.ndarray) -> None:
        self.position += len(samples)
        rules = self._rules
        loud = float(np.abs(samples).mean()) > 0.1
        if not self._open:
            if rules.push_to_talk or not loud:
                return
            self._begin()
        if loud:
            self._loud, self._quiet = self._loud + len(samples), 0
        else:
            self._quiet += len(samples)
        while self._words < min(self._loud // WORD, len(self._script.heard)):
            self._commit()
        if self._loud >= BARGE_IN and rules.barge_in and self._giving is not None:
            self._interrupt("barge_in", self._replying)
        if not rules.push_to_talk and self._quiet >= samples_of_ms(rules.silence_long_ms):
            self._end("silence")

    def _begin(self) -> None:
        self._open, self._turn = True, self.next_turn()
        self._loud = self._quiet = self._words = 0
        self._say(SpeechStarted(self._turn, self.position, self.position - 320))

    def _commit(self) -> None:
        text = self._script.heard[self._words]
        self._words += 1
        span = TokenSpan((7,), text, self.position, self.position, -0.1, torch.zeros(1, 4))
        self._say(HypothesisChanged(self._turn, self.position, text.strip()))
        self._say(WordsCommitted(self._turn, self.position, (span,)))

    def _end(self, reason: TurnEndReason) -> None:
        if not self._open:
            return
        self._open = False
        text = "".join(self._script.heard[: self._words]).strip()
        replies = bool(text) and self._answers
        self._say(
            SpeechStopped(self._turn, self.position, self.position - self._quiet),
            TurnEnded(self._turn, self.position, text, reason if text else "no_words", replies),
        )
        if text:
            self.memory.append(Message(f"u{self._turn}", "user", text))
        if replies:
            self._reply(self._turn, ReplyOptions())

    # Replying

    def _reply(self, turn: int, options: ReplyOptions, pieces: Sequence[str] = ()) -> None:
        self._waiting[turn] = None
        self._asked.put_nowait((turn, options, pieces or self._script.reply))

    def _interrupt(self, reason: InterruptReason, turn: int | None = None) -> None:
        for asked in self._waiting:
            if turn in (None, asked):
                self._waiting[asked] = reason
        if self._giving is not None and turn in (None, self._replying):
            self._giving.cancel()
            self._giving = None
            self._over(self._replying, "", reason)

    async def _respond(self) -> None:
        while True:
            turn, options, pieces = await self._asked.get()
            if (unwanted := self._waiting.pop(turn)) is not None:
                self._over(turn, "", unwanted)
                continue
            self._replying = turn
            giving = self._giving = asyncio.create_task(self._give(turn, options, pieces))
            await asyncio.wait([giving])
            self._giving = None

    async def _give(self, turn: int, options: ReplyOptions, pieces: Sequence[str]) -> None:
        script = self._script
        self._say(ReplyStarted(turn, self.position))
        text, start = "", 0
        tools = self.tools if options.tools is None else options.tools
        if script.call is not None and tools:
            call, script.call = script.call, None
            self._say(ToolCalled(turn, self.position, call))
            pieces = ()
        speaks = self._speaks if options.voice is None else options.voice
        for piece in pieces:
            await asyncio.sleep(script.step_s)
            text += piece
            self._say(ReplyText(turn, self.position, piece))
            if speaks:
                samples = np.full(RATE_HZ // 10, 0.2, np.float32)
                chunk = SpokenChunk(samples, RATE_HZ, start, len(text))
                start += len(samples)
                self._say(ReplyAudio(turn, self.position, chunk))
        if options.remember:
            self.memory.append(Message(f"a{turn}", "assistant", text))
        self._say(ReplyGiven(turn, self.position, text, "stop", {"first_token": 0.01}))
        await asyncio.sleep(script.plays_s)
        self._over(turn, text, "stop")

    def _over(self, turn: int, text: str, reason: ReplyEndReason) -> None:
        self._say(ReplyEnded(turn, self.position, text, reason), TurnLatency(turn, self.position))

    # Settings and memory

    def _configure(self, changes: Configure) -> None:
        self._rules = changes.turn or self._rules
        self.llm = changes.llm or self.llm
        self.tools = self.tools if changes.tools is None else changes.tools
        self._answers = self._answers if changes.replies is None else changes.replies
        self._speaks = self._speaks if changes.voice is None else changes.voice
        self.speed = self.speed if changes.speed is None else changes.speed

    def _edit(self, change: Add | Remove | Truncate) -> None:
        match change:
            case Add(message=message, after=after):
                at = len(self.memory)
                if after is not None:
                    at = self._index(after) + 1 if after else 0
                self.memory.insert(at, message)
            case Remove(message_id=message_id):
                del self.memory[self._index(message_id)]
            case Truncate(message_id=message_id, characters=characters):
                at = self._index(message_id)
                self.memory[at] = replace(self.memory[at], text=self.memory[at].text[:characters])

    def _index(self, message_id: str) -> int:
        for i, message in enumerate(self.memory):
            if message.id == message_id:
                return i
        raise StageError(f"there is no message {message_id!r}")
