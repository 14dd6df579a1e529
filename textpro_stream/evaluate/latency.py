"""Time to the reply's first token against the length of the question.

    textpro eval latency                        questions of 2, 5, 10 and 20 s, five of each
    textpro eval latency MANIFEST               the clips of a manifest instead

Questions are spoken by the default voice and heard at real-time pace through the whole pipeline,
each in a conversation of its own. `ttft_ready` at or below zero means that the first token was
there before the turn was decided to be over. False cut-offs stand beside it: any system is fast
that does not wait.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from textpro_stream.audio.pace import paced
from textpro_stream.clock import MonotonicClock
from textpro_stream.config import Settings
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.evaluate.manifest import read_manifest
from textpro_stream.evaluate.mix import read_audio
from textpro_stream.events import TurnEnded, TurnLatency
from textpro_stream.pipeline.engine import Engine
from textpro_stream.speech import open_voice

SILENCE_S = 1.5  # behind a question: longer than any endpoint waits
FIGURES = ("ttft_ready", "ttft_commit", "asr_lag", "endpoint_wait", "server_perceived")

# Words to cut questions from; no commas, so that the voice makes no pause that ends the turn.
SPEECH = (
    "please tell me in your own words how a small garden behind an old house can feed a family of"
    " five people through a long cold winter when the nearest market is many miles away and the"
    " road is often closed by snow and what they should plant in spring to have enough potatoes"
    " and beans and apples until the first warm days come back again next year"
)
OPENINGS = ("", "now", "so", "well", "today")  # makes the questions of one length differ
LENGTHS = ((2, 6), (5, 15), (10, 31), (20, 62))  # seconds, words that take about so long


@dataclass(frozen=True, slots=True)
class Question:
    """One question to be heard."""

    group: str
    audio: NDArray[np.float32]  # mono, 16 kHz


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of it."""

    group: str
    turns: int  # more than one: cut off in the middle
    marks: dict[str, float]  # of the last turn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro eval latency`."""
    parser.add_argument("manifest", type=Path, nargs="?", metavar="MANIFEST", help="own questions")
    parser.add_argument("--limit", type=int, default=20, help="so many clips of a manifest")
    parser.add_argument("--each", type=int, default=5, help="questions of each length, at most 5")
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print; 0."""
    answers = asyncio.run(_measure(args, settings))
    groups = list(dict.fromkeys(answer.group for answer in answers))
    names = "  ".join(f"{name:>16}" for name in FIGURES)
    print(f"{'question':>12}   n  cut off  ready <= 0  {names}   wasted tokens")
    for group in groups:
        rows = [answer for answer in answers if answer.group == group and answer.marks]
        if not rows:
            print(f"{group:>12}   0  no turn with words")
            continue
        ready = sum(row.marks.get("ttft_ready", 1.0) <= 0 for row in rows)
        medians = "  ".join(f"{_median(rows, name) * 1000:>13.0f} ms" for name in FIGURES)
        waste = float(np.mean([row.marks.get("spec_waste", 0.0) for row in rows]))
        cut = sum(row.turns > 1 for row in rows)
        print(f"{group:>12} {len(rows):>3}  {cut:>7}  {ready:>10}  {medians}   {waste:.1f}")
    print("medians; times against the endpoint decision unless their name says otherwise")
    if args.json:
        entries = [{"group": a.group, "turns": a.turns, **a.marks} for a in answers]
        args.json.write_text(json.dumps(entries, indent=1))
    return 0


async def _measure(args: argparse.Namespace, settings: Settings) -> list[Answer]:
    clock = MonotonicClock()
    answers: list[Answer] = []
    async with await Engine.load(replace(settings)) as engine:
        if args.manifest:
            items = read_manifest(args.manifest, limit=args.limit)
            questions = [
                Question(f"{_bucket(len(audio))} s", audio)
                for audio in (read_audio(item.audio) for item in items)
            ]
            questions.sort(key=lambda question: float(question.group.split()[0]))
        else:
            questions = await _spoken(settings, args.each)
        await _ask(engine, questions[0], clock)  # the first turn warms caches; not counted
        for question in questions:
            answers.append(await _ask(engine, question, clock))
    return answers


async def _ask(engine: Engine, question: Question, clock: MonotonicClock) -> Answer:
    rng = np.random.default_rng(0)
    quiet = rng.normal(0, 1e-4, round(SILENCE_S * SAMPLE_RATE)).astype(np.float32)
    audio = np.concatenate([quiet[: SAMPLE_RATE // 2], question.audio, quiet])
    turns, marks = 0, dict[str, float]()
    async with engine.open() as talk:
        talk.feed(paced([AudioChunk(audio, 0)], clock))
        async for event in talk:
            if isinstance(event, TurnEnded) and event.transcript:
                turns += 1
            elif isinstance(event, TurnLatency):
                marks = event.marks
    return Answer(question.group, turns, marks)


async def _spoken(settings: Settings, each: int) -> list[Question]:
    voice = await open_voice(settings.speech)
    questions: list[Question] = []
    try:
        for length, n_words in LENGTHS:
            for opening in OPENINGS[:each]:
                text = " ".join([*opening.split(), *SPEECH.split()[:n_words]]) + "?"
                parts = [chunk.samples async for chunk in voice.speak(text)]
                audio = soxr.resample(np.concatenate(parts), voice.rate_hz, SAMPLE_RATE)
                questions.append(Question(f"{length} s", np.asarray(audio, np.float32)))
    finally:
        await voice.close()
    return questions


def _bucket(n_samples: int) -> int:
    """The nearest length of the standard table, in seconds."""
    return min((length for length, _ in LENGTHS), key=lambda s: abs(s - n_samples / SAMPLE_RATE))


def _median(rows: Sequence[Answer], name: str) -> float:
    values = [row.marks[name] for row in rows if name in row.marks]
    return float(np.median(values)) if values else float("nan")
