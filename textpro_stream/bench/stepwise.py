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
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Literal, Protocol, Self, cast

from textpro_stream.audio.frames import Framer
from textpro_stream.config import TurnOptions
from textpro_stream.contracts import (
    FRAME,
    SAMPLE_RATE,
    AudioChunk,
    ListenedFrame,
    Observer,
    SpokenChunk,
    TokenSpan,
    samples_of_ms,
)
from textpro_stream.events import (
    Event,
    Failed,
    Finished,
    ReplyAudio,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    TurnEnded,
    TurnLatency,
    WordsCommitted,
)
from textpro_stream.pipeline.doors import Recognizing, Speaking
from textpro_stream.pipeline.failure import cause
from textpro_stream.pipeline.listener import has_words
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.ports import Clock
from textpro_stream.runtime.device import DeviceThread, Priority
from textpro_stream.telemetry.marks import Arrivals, TurnMarks
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn import Endpointer, VadModel

Kind = Literal["record-then-run", "sentence-streaming"]
KINDS: tuple[Kind, ...] = ("record-then-run", "sentence-streaming")

SILENCE_MS = 500  # that ends a turn, whatever was said
WAITING = samples_of_ms(1000) // FRAME  # frames not heard yet; whoever feeds more waits
AHEAD_S = 2.0  # reply audio given out ahead of playback, as by our own conversations
OPENING = 2 * SAMPLE_RATE  # samples kept from before a voice was noticed


class Answering(Protocol):
    """What a baseline asks of the LLM's side: the memory of one conversation."""

    @property
    def reason(self) -> str:
        """Why the reply ended."""
        ...

    def begin(self) -> None:
        """Prefill what stands before the first words."""
        ...

    def say(self, text: str, /) -> None:
        """The turn's words, all at once."""
        ...

    def draft(self) -> None:
        """Be ready to reply to them."""
        ...

    def reply(self) -> Iterator[str]:
        """Decode the reply, piece by piece."""
        ...

    def end_turn(self) -> None:
        """The turn is over; remember it."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What these conversations share: our own engine's models."""

    open_recognizer: Callable[[int, Observer], Recognizing]  # one that takes a whole recording
    open_dialogue: Callable[[Observer], Answering]
    voice: Speaking | None
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


class StepwiseConversation:
    """As much of `pipeline.Conversation` as a route needs, without any of its streaming."""

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
        self._endpointer = Endpointer(parts.vad.open(), fixed)
        self._preroll = samples_of_ms(fixed.preroll_ms)
        self._recent: deque[AudioChunk] = deque(maxlen=(self._preroll + OPENING) // FRAME)
        self._framer, self._arrivals, self._outbox = Framer(), Arrivals(), Outbox()
        self._frames: asyncio.Queue[AudioChunk | None] = asyncio.Queue(WAITING)
        self._ended: asyncio.Queue[Recording | None] = asyncio.Queue()
        self._open: list[AudioChunk] | None = None  # what was recorded of the open turn
        self._marks = TurnMarks()
        self._turn, self._turns, self._words = 0, 0, 0
        self._until = 0  # samples; the last turn's end
        self._dialogue: Answering
        self._giving: asyncio.Task[None] | None = None
        self._text = ""  # of the reply being given
        self._began: float | None = None  # when its first audio was given out
        self._why = ""  # it was stopped
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def push(self, chunk: AudioChunk) -> None:
        """Record audio, cut as you like."""
        self._arrivals.stamp(chunk.end, self._parts.clock.now())
        for frame in self._framer.push(chunk):
            await self._frames.put(frame)

    async def finish(self) -> None:
        """No more audio comes."""
        for frame in self._framer.finish():
            await self._frames.put(frame)
        await self._frames.put(None)

    async def stop(self, reason: str = "cancelled") -> None:
        """Stop the reply that is being made or given, if there is one."""
        if self._giving is not None and not self._giving.done():
            self._why = reason
            self._giving.cancel()

    async def configure(self, **changes: object) -> None:
        """There is nothing to set: a baseline is always the same."""

    def heard(self, samples: int) -> None:
        """What a player reports changes nothing here."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self._outbox.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def _converse(self) -> None:
        last: list[Event] = []
        try:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._listen(), name="listen")
                    tasks.create_task(self._answer_all(), name="answer")
            except Exception as error:
                failure = cause(error)
                last.append(Failed(self._turn, self.position, failure.code, str(failure)))
            last.append(
                Finished(self._turn, self._framer.end, self._turns, self._words, 0.0, {}, {})
            )
        finally:
            await self._outbox.close(*last)

    async def _listen(self) -> None:
        while (frame := await self._frames.get()) is not None:
            self.trace.position = frame.end
            self._recent.append(frame)
            if self._open is not None:
                self._open.append(frame)
            hear = partial(self._endpointer.push, ListenedFrame(frame))
            for signal in await self._parts.device.run(Priority.HEAR, hear):
                await self._act(signal.kind, signal.speech)
        for signal in self._endpointer.finish():
            await self._act(signal.kind, signal.speech)
        await self._ended.put(None)

    async def _act(self, kind: str, speech: int) -> None:
        now = self._parts.clock.now()
        if kind == "speech_started":
            await self.stop("barge_in")
            self._turn += 1
            since = max(speech - self._preroll, self._until)
            self._open = [frame for frame in self._recent if frame.end > since]
            self._marks = TurnMarks()
            await self._outbox.put(SpeechStarted(self._turn, self.position, speech))
        elif kind == "speech_stopped":
            self._marks.again("vad_stop", now)
            await self._outbox.put(SpeechStopped(self._turn, self.position, speech))
        elif kind == "endpoint" and self._open is not None:
            self._marks.decide(now, self.position, speech, self._arrivals)
            chunks, self._open, self._until = self._open, None, speech
            await self._ended.put(Recording(self._turn, self.position, chunks, self._marks))

    async def _answer_all(self) -> None:
        device, clock = self._parts.device, self._parts.clock
        self._dialogue = await device.run(
            Priority.PREFILL, partial(self._parts.open_dialogue, self.trace)
        )
        await device.run(Priority.PREFILL, self._dialogue.begin)
        while (recording := await self._ended.get()) is not None:
            marks = recording.marks
            spans = await device.run(Priority.HEAR, partial(self._recognize, recording.chunks))
            marks.note("asr_final", clock.now())
            text = "".join(span.text for span in spans)
            words = has_words(text)
            if spans:
                await self._emit(WordsCommitted(recording.turn, 0, tuple(spans)))
            reason = "silence" if words else "no_words"
            await self._outbox.put(TurnEnded(recording.turn, recording.at, text, reason, words))
            if not words:
                continue
            self._turns, self._words = self._turns + 1, self._words + len(text.split())
            await self._answer(recording.turn, text, marks)

    def _recognize(self, chunks: Sequence[AudioChunk]) -> list[TokenSpan]:
        recognizer = self._parts.open_recognizer(chunks[0].start, self.trace)
        heard = [change for chunk in chunks for change in recognizer.push(chunk)]
        return [span for change in (*heard, *recognizer.finish()) for span in change.committed]

    async def _answer(self, turn: int, said: str, marks: TurnMarks) -> None:
        """Reply to a turn, until the reply is given or stopped."""
        device, clock = self._parts.device, self._parts.clock
        marks.note("last_commit", clock.now())
        await device.run(Priority.PREFILL, partial(self._dialogue.say, said))
        await device.run(Priority.PREFILL, self._dialogue.draft)
        marks.note("llm_ready", clock.now())
        self._text, self._why, self._began = "", "", None
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
            reason, figures = self._dialogue.reason, marks.report()
            await self._emit(ReplyGiven(turn, 0, self._text, reason, figures))
        reason = self._why or self._dialogue.reason
        await self._emit(ReplyEnded(turn, 0, self._text, reason))
        await self._emit(TurnLatency(turn, 0, marks.report()))
        await device.run(Priority.PREFILL, self._dialogue.end_turn)

    async def _whole(self, turn: int, marks: TurnMarks) -> None:
        """All tokens, then all audio, then send."""
        async with aclosing(self._pieces(marks)) as pieces:
            text = "".join([piece async for piece in pieces])
        marks.note("first_clause", self._parts.clock.now())
        async with aclosing(self._spoken(text, 0, 0, marks)) as audio:
            chunks = [chunk async for chunk in audio]
        self._text = text
        await self._emit(ReplyStarted(turn, 0))
        await self._emit(ReplyText(turn, 0, text))
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
            async with aclosing(self._pieces(marks)) as pieces:
                async for piece in pieces:
                    if not self._text:
                        await self._emit(ReplyStarted(turn, 0))
                    self._text += piece
                    await self._emit(ReplyText(turn, 0, piece))
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

    async def _pieces(self, marks: TurnMarks) -> AsyncGenerator[str, None]:
        run = self._parts.device.run
        pieces = await run(Priority.DECODE, self._dialogue.reply)
        while (piece := await run(Priority.DECODE, partial(next, pieces, None))) is not None:
            marks.note("first_token", self._parts.clock.now())
            yield piece

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
            await self._emit(ReplyAudio(turn, 0, chunk))

    async def _emit(self, event: Any) -> None:  # any Event; `replace` loses the union
        await self._outbox.put(replace(event, at=self.position))


_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?=\s+\S)|\n+(?=\S)")


def sentence_ends(text: str, since: int) -> list[int]:
    """Where sentences end behind `since`, as soon as the next one has begun."""
    return [match.end() for match in _SENTENCE_END.finditer(text, since)]
