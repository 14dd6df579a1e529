"""The ways in which a clip becomes words: in a conversation, by the recogniser alone, and offline.

Each drives what users drive, pushes audio as a socket would, without a pause between chunks, and
notes what was told when. Times are on the audio clock, so they do not depend on the machine.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from textpro_stream import store
from textpro_stream.clock import MonotonicClock
from textpro_stream.config import Settings
from textpro_stream.contracts import AudioChunk, TokenSpan, bare_words, seconds, text_of
from textpro_stream.errors import StageError
from textpro_stream.evaluate.score import TimedWord
from textpro_stream.events import (
    Failed,
    HypothesisChanged,
    TranscriptRevised,
    TurnEnded,
    WordsCommitted,
)
from textpro_stream.pipeline import Engine
from textpro_stream.pipeline.spoken_turn import WorkTotals
from textpro_stream.telemetry.trace import Trace
from textpro_stream.whisper import Recognizer, WhisperPro, Work

CHUNK = 1600  # samples a push: 100 ms, as sockets send them


@dataclass(slots=True)
class Recognized:
    """One clip, one way."""

    text: str = ""
    words: list[TimedWord] = field(default_factory=list)  # with the audio heard at the commit
    revised: int = 0  # committed words that the end of their turn took back
    erased: int = 0  # shown words of the open tail that a later step took back
    cpu_s: float = 0.0  # all threads
    busy_s: dict[str, float] = field(default_factory=dict)  # by kind of work, on the wall clock
    blocks_s: list[float] = field(default_factory=list)  # CPU of each push that did work
    work: Work = field(default_factory=Work)


class Told:
    """What was told so far: committed words with their times, and how often a tail was revised."""

    def __init__(self) -> None:
        self.words: list[TimedWord] = []
        self.turn = ""  # text committed in this turn
        self.erased = 0
        self._tail: list[str] = []  # words shown behind the committed ones
        self._since = ""  # committed since the tail was shown

    def commit(self, text: str, at: int) -> None:
        """Text that will not change any more; `at` samples were heard by then."""
        if self.words and not text.startswith(" "):
            self.words[-1] = TimedWord(self.words[-1].text + text, seconds(at))
        elif text:
            self.words.append(TimedWord(text, seconds(at)))
        self.turn += text
        self._since += text

    def show(self, tail: str) -> None:
        """The whole open tail, in place of the last one."""
        shown = (self._since + tail).split()
        pairs = zip(self._tail, shown, strict=False)
        kept = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        self.erased += len(self._tail) - kept
        self._tail, self._since = tail.split(), ""

    def end_turn(self) -> None:
        """The next one shows a tail of its own."""
        self.show("")
        self.turn = self._since = ""
        self._tail = []


def n_revised(before: str, after: str) -> int:
    """Committed words that are not in the revised text any more, by the longest common run."""
    old, new = bare_words(before), bare_words(after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return len(old) - sum(block.size for block in matcher.get_matching_blocks())


async def converse(engine: Engine, audio: NDArray[np.float32]) -> Recognized:
    """As `textpro stream --fast --no-reply`: voice activity, turns, pauses and endpoints.

    Args:
        engine: without an LLM.
        audio: mono, 16 kHz.

    Raises:
        StageError: the conversation failed.
    """
    told, text, revised = Told(), "", 0
    clock = MonotonicClock()
    began = clock.cpu()
    async with engine.open(live=False) as talk:
        talk.feed(_chunks(audio))
        async for event in talk:
            match event:
                case WordsCommitted():
                    for span in event.spans:
                        told.commit(span.text, event.at)
                case HypothesisChanged():
                    told.show(event.text)
                case TranscriptRevised():
                    revised += n_revised(told.turn, event.text)
                case TurnEnded():
                    text += event.transcript
                    told.end_turn()
                case Failed():
                    raise StageError(event.message)
                case _:
                    pass
        return Recognized(
            text.strip(),
            told.words,
            revised,
            told.erased,
            clock.cpu() - began,
            dict(talk.trace.busy),
            work=_work(talk.work),
        )


@torch.inference_mode()  # as the device thread of a conversation
def recognize(
    model: WhisperPro, audio: NDArray[np.float32], *, offline: bool = False
) -> Recognized:
    """By the recogniser alone: one turn from the first sample to the last.

    Args:
        model: shared.
        audio: mono, 16 kHz.
        offline: one push, whole windows.
    """
    clock = MonotonicClock()
    trace = Trace(clock)
    recognizer = model.offline(trace) if offline else model.open(0, trace)
    told, spans = Told(), list[TokenSpan]()
    blocks_s: list[float] = []
    began = clock.cpu()
    for chunk in _cut(audio, len(audio) if offline else CHUNK):
        before = clock.cpu()
        transcripts = recognizer.push(chunk)
        if transcripts:
            blocks_s.append(clock.cpu() - before)
        for transcript in transcripts:
            _commit(told, transcript.committed, chunk.end)
            spans += transcript.committed
            told.show(text_of(transcript.hypothesis))
    revised = None
    if isinstance(recognizer, Recognizer) and (revision := recognizer.revise()):
        revised = revision.of(spans, recognizer.preview().spans)
    for transcript in recognizer.finish():
        _commit(told, transcript.committed, len(audio))
    text = told.turn if revised is None else text_of(revised)
    return Recognized(
        text.strip(),
        told.words,
        n_revised(told.turn, text),
        told.erased,
        clock.cpu() - began,
        dict(trace.busy),
        blocks_s,
        recognizer.work,
    )


def as_published(settings: Settings) -> WhisperPro:
    """What streaming is measured against: the model as its makers give it, in float32."""
    options = replace(settings.whisper, adapter="", dtype="float32")
    folder = store.resolve(options.model, "whisper")
    return WhisperPro.load(folder, options, torch.device("cpu"))


def _commit(told: Told, spans: Sequence[TokenSpan], at: int) -> None:
    for span in spans:
        told.commit(span.text, at)


def _cut(audio: NDArray[np.float32], size: int) -> Iterator[AudioChunk]:
    for at in range(0, len(audio), max(1, size)):
        yield AudioChunk(audio[at : at + size], at)


async def _chunks(audio: NDArray[np.float32]) -> AsyncIterator[AudioChunk]:
    for chunk in _cut(audio, CHUNK):
        yield chunk


def _work(totals: WorkTotals) -> Work:
    """The counters of all turns as those of one recogniser."""
    return Work(
        positions_final=totals.positions_final,
        positions_provisional=totals.positions_provisional,
        positions_heard=totals.positions_heard,
        decoder_passes=totals.decoder_passes,
        tokens_committed=totals.tokens_committed,
    )
