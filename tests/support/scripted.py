"""Scripted neighbours for tests of the pipeline, behind the pipeline's own doors.

Sound is scripted too: a tone is voice, silence is not, and which words are in it is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.contracts import (
    FRAME,
    SAMPLE_RATE,
    AudioChunk,
    Heard,
    Message,
    ProsodyWindow,
    SpokenChunk,
    TokenSpan,
    Tool,
    ToolCall,
    Transcript,
    samples_of_ms,
)
from textpro_stream.errors import StageError

BLOCK = samples_of_ms(320)
STATES = torch.zeros(1, 4)


def sound(*parts: tuple[str, float]) -> np.ndarray:
    """("voice" | "silence", seconds) one after another."""
    level = {"voice": 0.5, "silence": 0.0}
    return np.concatenate(
        [np.full(round(s * SAMPLE_RATE), level[kind], np.float32) for kind, s in parts]
    )


def chunks(samples: np.ndarray, cuts: Sequence[int] = ()) -> list[AudioChunk]:
    """The same audio cut at some positions; without any, into 100 ms."""
    cuts = cuts or range(1600, len(samples), 1600)
    edges = sorted({0, *(c for c in cuts if c < len(samples)), len(samples)})
    return [AudioChunk(samples[a:b], a) for a, b in pairwise(edges)]


class LevelVad:
    """Voice is what is loud."""

    frame = FRAME

    def probability(self, samples: np.ndarray, /) -> float:
        return 0.95 if float(np.abs(samples).mean()) > 0.1 else 0.02

    def open(self) -> LevelVad:
        return LevelVad()


@dataclass
class Work:
    positions_final: int = 0
    positions_provisional: int = 0
    positions_heard: int = 0
    decoder_passes: int = 0
    tokens_committed: int = 0


@dataclass
class Script:
    """Words by time, and what shall go wrong."""

    words: list[tuple[str, float]]  # text and the second at which it has been said
    delay_s: float = 0.5  # of commits
    recognizer_fails_at_s: float = float("inf")
    failures: float = float("inf")  # how often at most
    opened_at: list[int] = field(default_factory=list)
    previews: int = 0

    def open(self, start: int) -> ScriptedRecognizer:
        self.opened_at.append(start)
        return ScriptedRecognizer(self, start)


class ScriptedRecognizer:
    """Commits each scripted word some time after it was said, on a block grid."""

    def __init__(self, script: Script, start: int) -> None:
        self._script, self._start, self._end, self._blocks = script, start, start, 0
        self._given = 0
        self._words = [
            (i, text, round(at * SAMPLE_RATE))
            for i, (text, at) in enumerate(script.words)
            if round(at * SAMPLE_RATE) > start
        ]
        self.work = Work()

    def push(self, item: AudioChunk, /) -> Sequence[Transcript]:
        assert item.start == self._end, "audio must come without gaps"
        self._end = item.end
        due = self._end > self._script.recognizer_fails_at_s * SAMPLE_RATE
        if due and self._script.failures > 0:
            self._script.failures -= 1
            raise ValueError("scripted\nfailure")
        self.work.positions_heard += 1
        n_blocks = (self._end - self._start) // BLOCK
        if n_blocks == self._blocks:
            return ()
        self._blocks = n_blocks
        seen = self._start + n_blocks * BLOCK
        return [Transcript(self._take(seen - self._script.delay_s * SAMPLE_RATE), self._tail(seen))]

    def preview(self) -> tuple[TokenSpan, ...]:
        self._script.previews += 1
        return self._tail(self._end)

    def finish(self) -> Sequence[Transcript]:
        return [Transcript(self._take(self._end))]

    def _take(self, until: float) -> tuple[TokenSpan, ...]:
        spans = self._tail(until)
        self._given += len(spans)
        self.work.tokens_committed += len(spans)
        return spans

    def _tail(self, until: float) -> tuple[TokenSpan, ...]:
        return tuple(
            TokenSpan((i,), text, at - 1600, at, -0.1, STATES)
            for i, text, at in self._words[self._given :]
            if at <= until
        )


class WindowPerCommit:
    """A prosody window for every frame with words."""

    def push(self, heard: Heard, /) -> Sequence[ProsodyWindow]:
        if not heard.committed:
            return ()
        spans = heard.committed
        embedding = np.zeros(4, np.float32)
        return [
            ProsodyWindow(
                spans[0].start, spans[-1].end, len(spans), embedding, 120.0, 0.0, -20.0, 0.0, 3.0
            )
        ]

    def finish(self) -> Sequence[ProsodyWindow]:
        return ()


@dataclass
class ScriptedDialogue:
    """Keeps a log of what it was told; replies with the same pieces each time."""

    pieces: list[str] = field(default_factory=lambda: ["It", " is", " noon.", " Really", "."])
    fails_at_piece: int = 1000
    step: Callable[[], None] = lambda: None  # runs in the device's thread before each piece
    log: list[str] = field(default_factory=list)
    reason: str = "stop"
    tokens_decoded: int = 0
    full: bool = False
    too_long: bool = False
    turn: str = ""  # words of the open turn
    drafted: str | None = None
    fails_at_step: str = ""  # the method that raises, once
    messages: tuple[Message, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    asides: list[ScriptedDialogue] = field(default_factory=list)
    rows: int = 0  # in the cache

    @property
    def rows_cached(self) -> int:
        return self.rows

    def begin(self) -> None:
        self.log.append("begin")
        self.rows = 10 + len(self.messages)
        self.turn, self.drafted = "", None

    def configure(self, options: LlmOptions, tools: Sequence[Tool]) -> None:
        if self.fails_at_step == "configure":
            self.fails_at_step = ""
            raise StageError("the instructions are too long")
        names = ",".join(tool.name for tool in tools)
        self.log.append(f"configure {options.system_prompt[:12]}|{options.max_tokens}|{names}")

    def add(self, message: Message, after: str | None = None) -> None:
        self.log.append(f"add {message.id} after {after}")
        self.messages = (*self.messages, message)

    def remove(self, message_id: str) -> None:
        if message_id not in {message.id for message in self.messages}:
            raise StageError(f"no message {message_id}")
        self.log.append(f"remove {message_id}")
        self.messages = tuple(m for m in self.messages if m.id != message_id)

    def truncate(self, message_id: str, characters: int) -> None:
        self.log.append(f"truncate {message_id} {characters}")

    def aside(
        self, messages: Sequence[Message], options: LlmOptions, tools: Sequence[Tool]
    ) -> ScriptedDialogue:
        self.log.append("aside " + ",".join(m.id for m in messages))
        self.asides.append(ScriptedDialogue(pieces=["Aside", "."], messages=tuple(messages)))
        return self.asides[-1]

    def free(self) -> None:
        self.log.append("free")
        self.rows = 0

    def hear(self, spans: Sequence[TokenSpan]) -> None:
        self.log.append("hear" + "".join(s.text for s in spans))
        if self.too_long:
            self.too_long = False
            raise StageError("too long")

        self.turn += "".join(s.text for s in spans)

    def say(self, text: str) -> None:
        self.log.append("say " + text)
        self.turn += text

    def draft(self, tail: Sequence[TokenSpan] = ()) -> None:
        if self.fails_at_step == "draft":
            self.fails_at_step = ""
            raise ValueError("scripted draft failure")
        self.rows = 20 + len(self.messages)
        drafted = self.turn + "".join(s.text for s in tail)
        if drafted != self.drafted:
            self.drafted = drafted
            self.log.append("draft" + drafted)

    def resume(self) -> None:
        self.log.append("resume")
        self.drafted = None

    def reply(self) -> Iterator[str]:
        for i, piece in enumerate(self.pieces):
            self.step()
            if i == self.fails_at_piece:
                raise ValueError("scripted LLM failure")
            self.tokens_decoded += 1
            yield piece

    def end_turn(
        self,
        heard_characters: int | None = None,
        *,
        called: bool = False,
        user: str = "",
        reply: str = "",
    ) -> None:
        log = "end" if heard_characters is None else f"end at {heard_characters}"
        self.log.append(log if reply else f"keep {user}")
        if self.turn:
            self.messages = (*self.messages, Message(user, "user", self.turn))
        if reply:
            calls = self.calls if called else ()
            self.messages = (*self.messages, Message(reply, "assistant", "", calls))
        self.turn, self.drafted = "", None

    def needs_room(self) -> bool:
        return self.full

    def make_room(self) -> None:
        self.log.append("make room")
        self.full = False


@dataclass
class ScriptedVoice:
    """100 ms of audio for each word, at a rate of its own."""

    rate_hz: int = 1000
    fails: Exception | None = None
    spoken: list[str] = field(default_factory=list)
    open_streams: int = 0

    async def speak(
        self, text: str, *, start: int = 0, text_start: int = 0, speed: float = 1.0
    ) -> AsyncIterator[SpokenChunk]:
        self.spoken.append(text)
        self.open_streams += 1
        try:
            if self.fails:
                raise self.fails
            at, characters = start, text_start
            for word in text.split():
                await asyncio.sleep(0)
                characters += len(word) + 1
                samples = np.full(self.rate_hz // 10, 0.1, np.float32)
                end = min(characters, text_start + len(text))
                yield SpokenChunk(samples, self.rate_hz, at, end)
                at += len(samples)
        finally:
            self.open_streams -= 1


OPTIONS = TurnOptions(
    silence_ms=500, silence_long_ms=1000, eager_ms=200, start_ms=100, preroll_ms=400
)
