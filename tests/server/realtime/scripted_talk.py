"""A conversation that keeps to a script, behind the doors that the route uses.

It hears loudness and says what it was told to say; memory and reports are as of the real one, which
`test_real_conversation.py` puts in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

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
    HypothesisChanged,
    ReplyAudio,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    ToolCalled,
    TurnEnded,
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

    def open(self, **_: Any) -> ScriptedTalk:
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
        self._turn_options, self._replies, self._interruptible = TurnOptions(), True, True
        self._voice, self.tools, self.llm = True, (), LlmOptions()  # type: Any
        self.speed = 1.0
        self.memory: list[Message] = []
        self.options: list[ReplyOptions] = []
        self.position = 0
        self._turns = 0
        self._open = False  # a turn
        self._turn = 0
        self._loud = self._quiet = self._words = 0
        self._task: asyncio.Task[None] | None = None
        self._replying = 0

    async def __aenter__(self) -> ScriptedTalk:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def __aiter__(self) -> ScriptedTalk:
        return self

    async def __anext__(self) -> Event:
        event = await self._events.get()
        if event is None:
            raise StopAsyncIteration
        return event

    def _say(self, *events: Event) -> None:
        for event in events:
            self._events.put_nowait(event)

    # Hearing

    async def push(self, chunk: AudioChunk) -> None:
        assert chunk.start == self.position, "audio without gaps"
        for start in range(0, len(chunk.samples), 320):
            self._frame(chunk.samples[start : start + 320])

    def _frame(self, samples: np.ndarray) -> None:
        self.position += len(samples)
        options = self._turn_options
        loud = float(np.abs(samples).mean()) > 0.1
        if not self._open:
            if options.push_to_talk or not loud:
                return
            self._begin()
        if loud:
            self._loud, self._quiet = self._loud + len(samples), 0
        else:
            self._quiet += len(samples)
        while self._words < min(self._loud // WORD, len(self._script.heard)):
            self._commit()
        if self._loud >= BARGE_IN and self._interruptible:
            self._stop("barge_in")
        if not options.push_to_talk and self._quiet >= samples_of_ms(options.silence_long_ms):
            self._end("silence")

    def _begin(self) -> None:
        self._turns += 1
        self._open, self._turn = True, self._turns
        self._loud = self._quiet = self._words = 0
        self._say(SpeechStarted(self._turn, self.position, self.position - 320))

    def _commit(self) -> None:
        text = self._script.heard[self._words]
        self._words += 1
        span = TokenSpan((7,), text, self.position, self.position, -0.1, torch.zeros(1, 4))
        self._say(HypothesisChanged(self._turn, self.position, text.strip()))
        self._say(WordsCommitted(self._turn, self.position, (span,)))

    def _end(self, reason: str) -> None:
        if not self._open:
            return
        self._open = False
        text = "".join(self._script.heard[: self._words]).strip()
        reason = reason if text else "no_words"
        replies = bool(text) and self._replies
        self._say(
            SpeechStopped(self._turn, self.position, self.position - self._quiet),
            TurnEnded(self._turn, self.position, text, reason, replies),
        )
        if text:
            self.memory.append(Message(f"u{self._turn}", "user", text))
        if replies:
            self._reply(self._turn, ReplyOptions())

    async def press(self) -> None:
        if not self._open:
            self._begin()

    async def release(self) -> None:
        self._end("pushed")

    async def clear(self) -> None:
        self._open = False

    # Replying

    async def respond(self, options: ReplyOptions) -> int:
        self._turns += 1
        self.options.append(options)
        self._reply(self._turns, options)
        return self._turns

    async def announce(self, text: str) -> int:
        self._turns += 1
        self._reply(self._turns, ReplyOptions(), (text,))
        return self._turns

    def _reply(self, turn: int, options: ReplyOptions, pieces: Sequence[str] | None = None) -> None:
        before = self._task

        async def run() -> None:
            if before is not None:
                await asyncio.wait([before])
            self._replying = turn
            await self._give(turn, options, pieces or self._script.reply)
            self._replying = 0

        self._task = asyncio.create_task(run())

    async def _give(self, turn: int, options: ReplyOptions, pieces: Sequence[str]) -> None:
        script = self._script
        self._say(ReplyStarted(turn, self.position))
        text, start = "", 0
        tools = self.tools if options.tools is None else options.tools
        if script.call is not None and tools:
            call, script.call = script.call, None
            self._say(ToolCalled(turn, self.position, call))
            pieces = ()
        voice = self._voice if options.voice is None else options.voice
        for piece in pieces:
            await asyncio.sleep(script.step_s)
            text += piece
            self._say(ReplyText(turn, self.position, piece))
            if voice:
                samples = np.full(RATE_HZ // 10, 0.2, np.float32)
                chunk = SpokenChunk(samples, RATE_HZ, start, len(text))
                start += len(samples)
                self._say(ReplyAudio(turn, self.position, chunk))
        if options.remember:
            self.memory.append(Message(f"a{turn}", "assistant", text))
        self._say(ReplyGiven(turn, self.position, text, "stop", {"first_token": 0.01}))
        await asyncio.sleep(script.plays_s)
        self._say(ReplyEnded(turn, self.position, text, "stop"), TurnLatency(turn, self.position))

    async def stop(self, reason: str = "cancelled", *, turn: int | None = None) -> None:
        self._stop(reason)

    def _stop(self, reason: str) -> None:
        if self._replying and self._task is not None:
            turn, self._replying = self._replying, 0
            self._task.cancel()
            self._task = None
            self._say(ReplyEnded(turn, self.position, "", reason), TurnLatency(turn, self.position))

    # Settings and memory

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
        self._turn_options = turn or self._turn_options
        self.llm = llm or self.llm
        self.tools = self.tools if tools is None else tuple(tools)
        self._replies = self._replies if replies is None else replies
        self._interruptible = self._interruptible if interruptible is None else interruptible
        self._voice = self._voice if voice is None else voice
        self.speed = self.speed if speed is None else speed

    async def add(self, message: Message, after: str | None = None) -> None:
        at = len(self.memory)
        if after is not None:
            at = self._index(after) + 1 if after else 0
        self.memory.insert(at, message)

    async def remove(self, message_id: str) -> None:
        del self.memory[self._index(message_id)]

    async def truncate(self, message_id: str, characters: int) -> None:
        at = self._index(message_id)
        self.memory[at] = replace(self.memory[at], text=self.memory[at].text[:characters])

    def _index(self, message_id: str) -> int:
        for i, message in enumerate(self.memory):
            if message.id == message_id:
                return i
        raise StageError(f"no message {message_id}")
