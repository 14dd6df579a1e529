"""Does the thirtieth minute cost what the first one costs, and is it heard as well?

    textpro eval long talk.flac --minutes 0.5,2,10
    textpro eval long clips.jsonl --minutes 2,30 --report long.html

One conversation for each length, over one recording or the clips of a manifest joined, as fast as
the machine can: the LLM reads along and remembers the turns; replies are left out, or they would be
most of what is measured. What is shorter than asked for is played over and over. Lag is on the
audio clock: audio heard when a word was committed, less where the recogniser says that it ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from textpro_stream.clock import MonotonicClock
from textpro_stream.config import Settings
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, has_words, seconds
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.evaluate.long_figures import Course, Look, draw, rows
from textpro_stream.evaluate.manifest import comma_separated
from textpro_stream.evaluate.overheard import PromptEngine
from textpro_stream.evaluate.page import markdown
from textpro_stream.evaluate.recording import Recording, read_pieces, record
from textpro_stream.evaluate.score import errors
from textpro_stream.events import Failed, ProsodyUpdated, TurnEnded, WordsCommitted
from textpro_stream.llm.local import LocalEngine
from textpro_stream.pipeline import Conversation, Engine
from textpro_stream.runtime.memory import trim_heap

HEARING, READING = ("vad", "encoder", "decoder"), ("prefill", "decode")
LOOKS = 20  # at memory and cost, for each length
OFTEN_S = 10.0  # never closer than this
MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro eval long`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="speech, or a manifest (.jsonl)")
    parser.add_argument("--minutes", default="0.5,2,10", help="lengths, comma-separated")
    parser.add_argument("--kinds", default="", help="of a manifest's clips, comma-separated")
    parser.add_argument("--json", type=Path, help="write the figures here, as one line")
    parser.add_argument("--report", type=Path, help="write a page with plots here")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print; 0."""
    if settings.llm.is_remote:
        raise ConfigError("eval long measures this machine's LLM: leave --llm out")
    lengths = _lengths(args.minutes)
    pieces = read_pieces(args.file, comma_separated(args.kinds))
    threads = settings.device.threads or 1
    settings = replace(
        settings,
        device=replace(settings.device, threads=threads),
        turn=replace(settings.turn, barge_in=False, push_to_talk=False),  # nobody listens
    )
    courses = asyncio.run(_all(settings, [record(pieces, minutes) for minutes in lengths]))
    print(markdown(*rows(courses)))
    if args.json:
        told: Mapping[str, object] = {
            "file": args.file.name,
            "whisper": settings.whisper.model,
            "block_ms": settings.whisper.block_ms,
            "llm": settings.llm.model,
            "lengths": [course.figures() for course in courses],
        }
        args.json.write_text(json.dumps(told) + os.linesep)
    if args.report:
        args.report.write_text(draw(courses), encoding="utf-8")
    return 0


def _lengths(text: str) -> list[float]:
    try:
        lengths = [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        lengths = []
    if not lengths or not all(0 < length <= 24 * 60 for length in lengths):
        raise ConfigError(f"--minutes {text!r}: give lengths such as 0.5,2,10")
    return lengths


async def _all(settings: Settings, recordings: Sequence[Recording]) -> list[Course]:
    courses: list[Course] = []
    async with await Engine.load(settings, speech=False) as engine:
        assert isinstance(engine.llm, LocalEngine)
        engine.llm = PromptEngine(engine.llm.model, engine.llm.device)
        for recording in recordings:
            courses.append(await converse(engine, recording))
            told = courses[-1].figures()
            print(f"{told['length_s']} s heard in {courses[-1].wall_s:.0f} s", flush=True)
    return courses


async def converse(engine: Engine, recording: Recording) -> Course:
    """The whole recording through one conversation.

    Raises:
        StageError: the conversation failed.
    """
    course = Course(seconds(recording.end))
    said: list[str] = []
    clock = MonotonicClock()
    trim_heap()  # what the length before has left is not this one's
    began = clock.now()
    async with engine.open(live=False) as talk:
        talk.feed(_watched(recording, talk, course))
        async for event in talk:
            match event:
                case WordsCommitted():
                    at_s = seconds(event.at)
                    course.lags += [(at_s, at_s - seconds(span.end)) for span in event.spans]
                case ProsodyUpdated():
                    course.windows += 1
                case TurnEnded(transcript=text) if has_words(text):
                    said.append(text)
                    course.turns += 1
                case Failed():
                    raise StageError(event.message)
                case _:
                    pass
        course.looks.append(_look(talk, course.length_s))
    course.wall_s = clock.now() - began
    heard = " ".join(said)
    course.words = len(heard.split())
    if recording.text is not None:
        course.wer = errors(recording.text, heard).wer
    return course


async def _watched(
    recording: Recording, talk: Conversation, course: Course
) -> AsyncIterator[AudioChunk]:
    """Hand over chunks as they are taken, and look around now and then."""
    stride = max(round(OFTEN_S * SAMPLE_RATE), recording.end // LOOKS)
    due = 0
    for chunk in recording.chunks():
        if chunk.start >= due:
            course.looks.append(_look(talk, seconds(chunk.start)))
            due += stride
        await asyncio.sleep(0)
        yield chunk


def _look(talk: Conversation, at_s: float) -> Look:
    busy = talk.trace.busy
    return Look(
        at_s=at_s,
        cpu_s=MonotonicClock().cpu(),
        hearing_s=sum(busy[name] for name in HEARING),
        reading_s=sum(busy[name] for name in READING),
        rss_mib=_rss_mib(),
        rows=talk.tokens_cached,
    )


def _rss_mib() -> float:
    """Memory in use; where the system does not tell, the most so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / MIB
