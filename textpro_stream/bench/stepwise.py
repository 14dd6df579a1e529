"""What streaming is measured against: conversations that do one step after another.

`record-then-run` waits for 500 ms of silence, then recognises the whole recording, prefills the
whole turn, decodes the whole reply, synthesises all of it, and sends. `sentence-streaming` is the
stronger one that most assistants are: the same up to the LLM, whose sentences are spoken while the
next ones are decoded, and sent as they come.

Weights, engine, device thread, voice and route are those of our own conversations. Where there was
a choice, it favours these: recognition takes one pass over just what was recorded, not a window
padded to 30 s (a third of the time for 2 s); the system prompt is in the cache before anybody
speaks; and their reply is over when it has been given out. Marks mean what docs/latency.md says.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, cast

from textpro_stream import events as ev
from textpro_stream.audio.frames import Framer
from textpro_stream.commands import Command, Finish, Interrupt
from textpro_stream.config import TurnOptions
from textpro_stream.contracts import (
    FRAME,
    SAMPLE_RATE,
    AudioChunk,
    GenerationEnd,
    GenerationEndReason,
    ListenedFrame,
    OpenTurn,
    Playout,
    ReplyOptions,
    SpokenChunk,
    TextDelta,
    TokenSpan,
    TurnSignal,
    has_words,
    samples_of_ms,
    text_of,
)
from textpro_stream.errors import as_textpro_error
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.ports import Clock, Dialogue, Endpointer, Observer, Recognizer, VadModel, Voice
from textpro_stream.runtime.device import DeviceThread, Lane, Step
from textpro_stream.telemetry.marks import Arrivals, TurnMarks
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn import endpoint

Kind = Literal["record-then-run", "sentence-streaming"]
KINDS: tuple[Kind, ...] = ("record-then-run", "sentence-streaming")

SILENCE_MS = 500  # that ends a turn, whatever was said
AHEAD_S = 2.0  # reply audio given out ahead of playback, as by our own conversations
OPENING = 2 * SAMPLE_RATE  # samples kept from before a voice was noticed


@dataclass(frozen=True, slots=True)
class Parts:
    """What these conversations share: our own engine's models."""

    open_recognizer: Callable[[int, Observer], Recognizer]  # one that takes a whole recording
    open_dialogue: Callable[[Observer], Dialogue]
    voice: Voice | None
    vad: VadModel
    device: DeviceThread
    clock: Clock
    turn: TurnOptions


@dataclass(frozen=True, slots=True)
class Recording:
    """A turn that has ended and has not been looked at yet."""

    turn: int
    at: int  # samples; where the endpoint was decided
    chunks: Sequence[AudioChunk]
    marks: TurnMarks


@dataclass(frozen=True, slots=True)
class Hear(Step[Sequence[TurnSignal]]):
    """One frame for the endpoint machine."""

    lane = Lane.HEAR
    endpointer: Endpointer
    frame: AudioChunk

    def run(self) -> Sequence[TurnSignal]:
        """See `Endpointer.push`."""
        return self.endpointer.push(ListenedFrame(self.frame))


@dataclass(frozen=True, slots=True)
class Recognize(Step[list[TokenSpan]]):
    """A whole recording."""

    lane = Lane.HEAR
    open_recognizer: Callable[[int, Observer], Recognizer]
    chunks: Sequence[AudioChunk]
    observer: Observer

    def run(self) -> list[TokenSpan]:
        """All of its words."""
        recognizer = self.open_recognizer(self.chunks[0].start, self.observer)
        heard = [change for chunk in self.chunks for change in recognizer.push(chunk)]
        return [span for change in (*heard, *recognizer.finish()) for span in change.committed]


class StepwiseConversation:
    """A `Talk` without any streaming: it takes audio, `Interrupt` and `Finish`, nothing else."""

    def __init__(self, parts: Parts, kind: Kind) -> None:
        self.trace = Trace(parts.clock)
        self._parts, self._kind = parts, kind
        fixed = replace(
            parts.turn,
            silence_ms=SILENCE_MS,
            silence_long_ms=SILENCE_MS,
            eager_ms=SILENCE_MS,
            push_to_talk=False,
        )
        self._endpointer = endpoint.Endpointer(parts.vad.open(), fixed)
        self._preroll = samples_of_ms(fixed.preroll_ms)
        self._recent: deque[AudioChunk] = deque(maxlen=(self._preroll + OPENING) // FRAME)
        self._framer, self._arrivals, self._outbox = Framer(), Arrivals(), Outbox()
        self._frames: asyncio.Queue[AudioChunk | None] = asyncio.Queue()
        self._numbers = itertools.count(1)
        self._reason: GenerationEndReason = "stop"
        self._ended: asyncio.Queue[Recording | None] = asyncio.Queue()
        self._open: list[AudioChunk] | None = None  # what was recorded of the open turn
        self._marks = TurnMarks()
        self._turn, self._turns, self._words = 0, 0, 0
        self._until = 0  # samples; the last turn's end
        self._dialogue: Dialogue
        self._giving: asyncio.Task[None] | None = None
        self._text = ""  # of the reply being given
        self._began: float | None = None  # when its first audio was given out
        self._why: ev.ReplyEndReason | None = None  # it was stopped
        self._task: asyncio.Task[None] | None = None

    @property
    def voice(self) -> float:
        """Speech probability of the last frame heard."""
        return self._endpointer.voice

    @property
    def position(self) -> int:
        """Samples heard so far."""
        return self.trace.position

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._converse(), name="stepwise conversation")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def tokens_cached(self) -> int:
        """Not counted here."""
        return 0

    def next_turn(self) -> int:
        """The number of a turn."""
        return next(self._numbers)

    async def push(self, item: AudioChunk | Command, /) -> None:
        """Record audio, cut as you like; stop a reply; say that no more comes."""
        self.push_nowait(item)

    def push_nowait(self, item: AudioChunk | Command, /) -> None:
        """The same. A baseline has nothing to set, so other commands change nothing."""
        match item:
            case AudioChunk():
                self._arrivals.stamp(item.end, self._parts.clock.now())
                for frame in self._framer.push(item):
                    self._frames.put_nowait(frame)
            case Finish():
                for frame in self._framer.finish():
                    self._frames.put_nowait(frame)
                self._frames.put_nowait(None)
            case Interrupt(reason=reason):
                self._stop(reason)
            case _:
                pass

    def _stop(self, reason: Literal["barge_in", "cancelled"]) -> None:
        """Stop the reply that is being made or given, if there is one."""
        if self._giving is not None and not self._giving.done():
            self._why = reason
            self._giving.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ev.Event:
        event = await self._outbox.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def _converse(self) -> None:
        last: list[ev.Event] = []
        try:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._listen(), name="listen")
                    tasks.create_task(self._answer_all(), name="answer")
            except Exception as error:
                failure = as_textpro_error(error)
                last.append(
                    ev.Failed(self._turn, self.position, ev.failure_code(failure), str(failure))
                )
            last.append(
                ev.Finished(self._turn, self._framer.end, self._turns, self._words, 0.0, {}, {})
            )
        finally:
            await self._outbox.close(*last)

    async def _listen(self) -> None:
        while (frame := await self._frames.get()) is not None:
            self.trace.position = frame.end
            self._recent.append(frame)
            if self._open is not None:
                self._open.append(frame)
            for signal in await self._parts.device.run(Hear(self._endpointer, frame)):
                await self._act(signal.kind, signal.speech)
        for signal in self._endpointer.finish():
            await self._act(signal.kind, signal.speech)
        await self._ended.put(None)

    async def _act(self, kind: str, speech: int) -> None:
        now = self._parts.clock.now()
        if kind == "speech_started":
            self._stop("barge_in")
            self._turn = self.next_turn()
            since = max(speech - self._preroll, self._until)
            self._open = [frame for frame in self._recent if frame.end > since]
            self._marks = TurnMarks()
            await self._outbox.put(ev.SpeechStarted(self._turn, self.position, speech))
        elif kind == "speech_stopped":
            self._marks.again("vad_stop", now)
            await self._outbox.put(ev.SpeechStopped(self._turn, self.position, speech))
        elif kind == "endpoint" and self._open is not None:
            self._marks.decide(now, self.position, speech, self._arrivals)
            chunks, self._open, self._until = self._open, None, speech
            await self._ended.put(Recording(self._turn, self.position, chunks, self._marks))

    async def _answer_all(self) -> None:
        device, clock = self._parts.device, self._parts.clock
        self._dialogue = self._parts.open_dialogue(self.trace)
        await self._dialogue.follow(OpenTurn(0))
        while (recording := await self._ended.get()) is not None:
            marks = recording.marks
            step = Recognize(self._parts.open_recognizer, recording.chunks, self.trace)
            spans = await device.run(step)
            marks.note("asr_final", clock.now())
            text = text_of(spans)
            words = has_words(text)
            if spans:
                await self._emit(ev.WordsCommitted(recording.turn, 0, tuple(spans)))
            reason: ev.TurnEndReason = "silence" if words else "no_words"
            await self._outbox.put(ev.TurnEnded(recording.turn, recording.at, text, reason, words))
            if not words:
                continue
            self._turns, self._words = self._turns + 1, self._words + len(text.split())
            await self._answer(recording.turn, spans, marks)

    async def _answer(self, turn: int, said: Sequence[TokenSpan], marks: TurnMarks) -> None:
        """Reply to a turn, until the reply is given or stopped."""
        clock = self._parts.clock
        marks.note("last_commit", clock.now())
        await self._dialogue.follow(OpenTurn(turn, tuple(said), over=True))
        marks.note("llm_ready", clock.now())
        self._text, self._why, self._began = "", None, None
        give = self._whole if self._kind == "record-then-run" else self._by_sentence
        self._giving = asyncio.create_task(give(turn, marks), name=f"reply {turn}")
        try:
            await asyncio.wait([self._giving])
        finally:
            self._giving.cancel()
        if self._why:
            await self._outbox.drop_reply(turn)
        else:
            self._giving.result()
            figures = marks.report()
            await self._emit(ev.ReplyGiven(turn, 0, self._text, self._reason, figures))
        reason: ev.ReplyEndReason = self._why or self._reason
        await self._emit(ev.ReplyEnded(turn, 0, self._text, reason))
        await self._emit(ev.TurnLatency(turn, 0, marks.report()))
        await self._dialogue.close_turn(Playout())

    async def _whole(self, turn: int, marks: TurnMarks) -> None:
        """All tokens, then all audio, then send."""
        async with aclosing(self._pieces(turn, marks)) as pieces:
            text = "".join([piece async for piece in pieces])
        marks.note("first_clause", self._parts.clock.now())
        async with aclosing(self._spoken(text, 0, 0, marks)) as audio:
            chunks = [chunk async for chunk in audio]
        self._text = text
        await self._emit(ev.ReplyStarted(turn, 0))
        await self._emit(ev.ReplyText(turn, 0, text))
        await self._send(turn, chunks, marks)

    async def _by_sentence(self, turn: int, marks: TurnMarks) -> None:
        """Each sentence is spoken and sent while the next is decoded."""
        waiting: asyncio.Queue[tuple[str, int] | None] = asyncio.Queue()

        async def speak() -> None:
            spoken = 0
            while (sentence := await waiting.get()) is not None:
                text, start = sentence
                async with aclosing(self._spoken(text, spoken, start, marks)) as chunks:
                    async for chunk in chunks:
                        spoken = chunk.start + len(chunk.samples)
                        await self._send(turn, [chunk], marks)

        async def decode() -> None:
            given = 0  # characters handed to the voice
            async with aclosing(self._pieces(turn, marks)) as pieces:
                async for piece in pieces:
                    if not self._text:
                        await self._emit(ev.ReplyStarted(turn, 0))
                    self._text += piece
                    await self._emit(ev.ReplyText(turn, 0, piece))
                    for end in sentence_ends(self._text, given):
                        await hand_over(given, end)
                        given = end
            await hand_over(given, len(self._text))
            await waiting.put(None)

        async def hand_over(start: int, end: int) -> None:
            if self._text[start:end].strip():
                marks.note("first_clause", self._parts.clock.now())
                await waiting.put((self._text[start:end], start))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(speak(), name=f"speak {turn}")
            tasks.create_task(decode(), name=f"decode {turn}")

    async def _pieces(self, turn: int, marks: TurnMarks) -> AsyncGenerator[str, None]:
        async with aclosing(self._dialogue.reply(turn, ReplyOptions())) as deltas:
            async for delta in deltas:
                match delta:
                    case TextDelta(text=text):
                        marks.note("first_token", self._parts.clock.now())
                        yield text
                    case GenerationEnd(reason=reason):
                        self._reason = reason
                    case _:
                        pass

    async def _spoken(
        self, text: str, start: int, text_start: int, marks: TurnMarks
    ) -> AsyncGenerator[SpokenChunk, None]:
        if self._parts.voice is None:
            return
        stream = self._parts.voice.speak(text, start=start, text_start=text_start)
        async with aclosing(cast("AsyncGenerator[SpokenChunk, None]", stream)) as chunks:
            async for chunk in chunks:
                marks.note("tts_first", self._parts.clock.now())
                yield chunk

    async def _send(self, turn: int, chunks: Sequence[SpokenChunk], marks: TurnMarks) -> None:
        """Give audio out, at most `AHEAD_S` before its time."""
        clock = self._parts.clock
        for chunk in chunks:
            if self._began is None:
                self._began = clock.now()
                marks.note("first_audio", self._began)
            await clock.sleep_until(self._began + chunk.start / chunk.rate_hz - AHEAD_S)
            await self._emit(ev.ReplyAudio(turn, 0, chunk))

    async def _emit(self, event: Any) -> None:  # any ev.Event; `replace` loses the union
        await self._outbox.put(replace(event, at=self.position))


_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?=\s+\S)|\n+(?=\S)")


def sentence_ends(text: str, since: int) -> list[int]:
    """Where sentences end after `since`, as soon as the next one has begun."""
    return [match.end() for match in _SENTENCE_END.finditer(text, since)]
