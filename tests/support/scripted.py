"""Scripted neighbours for tests of the pipeline, behind the pipeline's own doors.

Sound is scripted too: a tone is voice, silence is not, and which words are in it is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch

from textpro_stream.commands import Add, Change, Remove
from textpro_stream.config import TurnOptions
from textpro_stream.contracts import (
    FRAME,
    SAMPLE_RATE,
    AudioChunk,
    Delta,
    GenerationEnd,
    ListenedFrame,
    Message,
    OpenTurn,
    Playout,
    Preview,
    ProsodyWindow,
    ReplyOptions,
    Revision,
    SpokenChunk,
    TextDelta,
    TokenSpan,
    ToneReading,
    ToolCall,
    Transcript,
    samples_of_ms,
)
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.runtime.device import DeviceThread, Lane, Step

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
    # What hearing the turn as a whole says from there on: the first word counted, and the others.
    revision: tuple[int, tuple[str, ...]] | None = None
    logprob: float = -0.1  # of each word
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

    def preview(self) -> Preview:
        self._script.previews += 1
        return Preview(self._tail(self._end))

    def finish(self) -> Sequence[Transcript]:
        return [Transcript(self._take(self._end))]

    def revise(self) -> Revision | None:
        if self._script.revision is None:
            return None
        kept, texts = self._script.revision
        spans = [TokenSpan((9,), text, 0, self._end, -0.1, STATES) for text in texts]
        return Revision(kept, tuple(spans))

    def _take(self, until: float) -> tuple[TokenSpan, ...]:
        spans = self._tail(until)
        self._given += len(spans)
        self.work.tokens_committed += len(spans)
        return spans

    def _tail(self, until: float) -> tuple[TokenSpan, ...]:
        return tuple(
            TokenSpan((i,), text, at - 1600, at, self._script.logprob, STATES)
            for i, text, at in self._words[self._given :]
            if at <= until
        )


CALM = ToneReading(None, 0.0, 0.0, 1.0, None, {"neutral": 1.0})


class WindowPerCommit:
    """A prosody window for every frame with words; a tone of voice for every turn with words.

    Args:
        drafted: how a turn sounds before its end.
        whole: how it sounds there.
    """

    def __init__(self, drafted: ToneReading = CALM, whole: ToneReading = CALM) -> None:
        self._said = False
        self._drafted, self._whole = drafted, whole

    def push(self, frame: ListenedFrame, /) -> Sequence[ProsodyWindow | ToneReading]:
        found: list[ProsodyWindow | ToneReading] = []
        if spans := frame.committed:
            self._said = True
            start, end, embedding = spans[0].start, spans[-1].end, np.zeros(4, np.float32)
            found.append(
                ProsodyWindow(start, end, len(spans), embedding, 120.0, 0.0, -20.0, 0.0, 3.0)
            )
        if frame.ends_turn and self._said:
            self._said = False
            found.append(self._whole)
        return found

    def tone(self, tail: Sequence[TokenSpan], /) -> ToneReading | None:
        return self._drafted if self._said or tail else None

    def finish(self) -> Sequence[ProsodyWindow]:
        return ()


@dataclass(frozen=True)
class Call(Step[None]):
    """Any function as a step of the device."""

    function: Callable[[], object]
    lane = Lane.DECODE

    def run(self) -> None:
        self.function()


@dataclass
class ScriptedDialogue:
    """Remembers what it is told; replies with the same pieces each time."""

    pieces: list[str] = field(default_factory=lambda: ["It", " is", " noon.", " Really", "."])
    calls: tuple[ToolCall, ...] = ()
    fails_at_piece: int = 1000
    fails_at: str = ""  # "follow", "draft", "options": what raises, once
    step: Callable[[], object] | None = None  # runs in the device's thread before each piece
    device: DeviceThread | None = None
    messages: tuple[Message, ...] = ()  # what is remembered
    turn: OpenTurn = field(default_factory=lambda: OpenTurn(0))  # as it was told last
    read: list[OpenTurn] = field(default_factory=list)  # all that changed what it had to read
    begun: list[str] = field(default_factory=list)  # the words that replies were begun to
    asked: list[ReplyOptions] = field(default_factory=list)  # how
    edits: list[Change] = field(default_factory=list)
    tokens_cached: int = 0
    rests: int = 0
    drawn: int = 0  # pieces
    closed: bool = False
    _text: str = ""  # of the reply that was begun last
    _replied: int = 0  # the turn that it is remembered by

    async def follow(self, turn: OpenTurn, /) -> None:
        if self.fails_at == ("draft" if turn.over else "follow"):
            self.fails_at = ""
            raise ValueError("scripted draft failure")
        self.tokens_cached = 10 + len(self.messages)
        if (turn.text, turn.over) != (self.turn.text, self.turn.over):
            self.read.append(turn)
        self.turn = turn
        if self.fails_at == "length" and turn.spans:
            self.fails_at = ""
            raise StageError("too long")

    async def reply(self, turn: int, options: ReplyOptions, /) -> AsyncGenerator[Delta, None]:
        self._replied, self._text = turn, ""
        self.asked.append(options)
        if self.fails_at == "options":
            self.fails_at = ""
            raise ConfigError("the instructions are too long")
        self.begun.append(self.turn.text)
        for i, piece in enumerate(["Aside", "."] if options.aside else self.pieces):
            if self.step is not None and self.device is not None:
                await self.device.run(Call(self.step))
            else:
                await asyncio.sleep(0)
            if i == self.fails_at_piece:
                raise ValueError("scripted LLM failure")
            self.drawn += 1
            self._text += piece
            yield TextDelta(piece)
        for call in self.calls:
            yield call
        yield GenerationEnd("stop", 30, 20)

    async def close_turn(self, playout: Playout | None, /) -> None:
        aside = bool(self.asked) and self.asked[-1].aside and playout is not None
        number = self.turn.number
        if self.turn.text and not aside:
            self.messages += (Message(f"u{number}", "user", self.turn.text),)
        if playout is not None and (not aside or self.asked[-1].remember):
            text = self._text[: playout.characters]
            calls = self.calls if playout.calls_told else ()
            self.messages += (Message(f"a{self._replied}", "assistant", text, calls),)
        self.turn = OpenTurn(0)

    async def edit(self, change: Change, /) -> None:
        match change:
            case Add(message=message):
                self.messages += (message,)
            case Remove(message_id=message_id):
                if message_id not in {message.id for message in self.messages}:
                    raise StageError(f"no message {message_id}")
                self.messages = tuple(m for m in self.messages if m.id != message_id)
            case _:
                pass
        self.edits.append(change)

    async def rest(self) -> None:
        self.rests += 1
        self.tokens_cached = 0

    async def close(self) -> None:
        self.closed = True
        self.tokens_cached = 0


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
