"""How long a listener waits, by the client's clock over a real socket.

    textpro bench latency                          questions of 2, 5, 10 and 20 s, five of each
    textpro bench latency --baselines --each 20 --report out.html
    textpro bench latency --sessions 1,2,4         how many talks at once
    textpro bench latency --manifest own.jsonl --url ws://host:8765/v1/stream

Questions are spoken by the default voice and sent at the pace of speech; each is asked in a session
of its own. With --baselines, every question goes to all three systems before the next one does, so
whatever disturbs the machine disturbs all of them. What each figure means: docs/latency.md.
The last line on standard output is the result as one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textpro_stream.bench import results, table
from textpro_stream.bench.drive import Driver, Turn, greeting, open_session
from textpro_stream.bench.machine import LoadMeter, environment
from textpro_stream.bench.questions import (
    LENGTHS,
    Question,
    group_of,
    recorded_questions,
    spoken_questions,
)
from textpro_stream.bench.serve import OURS, MeasuredServer
from textpro_stream.clock import MonotonicClock
from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError
from textpro_stream.ports import Clock

WARM_UP = 2  # turns of each system that are not counted
CROWD_LENGTH = 5.0  # seconds; the questions of many at once, who differ in when they ask


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro bench latency`."""
    parser.add_argument("--each", metavar="N", type=int, default=5, help="questions of each length")
    parser.add_argument(
        "--lengths",
        metavar="S[,S…]",
        type=_numbers,
        default=LENGTHS,
        help="of the questions, in seconds (2,5,10,20)",
    )
    parser.add_argument("--manifest", metavar="FILE", type=Path, help="own recordings (JSONL)")
    parser.add_argument("--limit", metavar="N", type=int, default=40, help="clips of a manifest")
    parser.add_argument("--url", metavar="WS", help="a server that runs already")
    parser.add_argument("--key", metavar="KEY", help="of that server")
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="ask record-then-run and sentence-streaming the same, turn by turn",
    )
    parser.add_argument(
        "--paced-baselines",
        action="store_true",
        help="send to baselines at the pace of speech from the beginning, not only the last second",
    )
    parser.add_argument(
        "--sessions", metavar="N[,N…]", type=_counts, default=(), help="so many talks at once"
    )
    parser.add_argument(
        "--bound-ms",
        metavar="MS",
        type=float,
        default=1500.0,
        help="p95 of server_perceived up to which --sessions goes on (1500)",
    )
    parser.add_argument("--report", metavar="HTML", type=Path, help="write a page with plots")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the result")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure, print and write; 0 if any turn was answered."""
    if args.url and args.baselines:
        raise ConfigError("--baselines run in our own server process; leave --url out")
    if args.each < 1:
        raise ConfigError("--each: give 1 or more")
    measured = asyncio.run(_measure(args, settings))
    result = results.summary(
        measured.environment, measured.turns, measured.warm_up, measured.sessions
    )
    print(table.text(result))
    if args.report:
        from textpro_stream.bench.report import page

        args.report.write_text(page(result), encoding="utf-8")
    line = json.dumps(result, ensure_ascii=False, allow_nan=False)
    if args.json:
        args.json.write_text(line + "\n", encoding="utf-8")
    print(line)
    answered = any(turn.status == "ok" for turn in measured.turns)
    return 0 if answered or measured.sessions else 1


@dataclass
class _Measured:
    environment: dict[str, Any]
    turns: list[Turn] = field(default_factory=list)
    warm_up: list[Turn] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)


class _Probe:
    """Asks, and notes how busy the machine was meanwhile."""

    def __init__(self, driver: Driver, clock: Clock, server: MeasuredServer | None) -> None:
        self.driver = driver
        self._clock, self._server, self._meter = clock, server, LoadMeter()

    async def load(self) -> dict[str, float]:
        own = self._clock.cpu()
        if self._server is None:
            return {}
        return self._meter.read(own + await self._server.cpu_s())

    async def ask(self, url: str, system: str, question: Question, *, fast: bool) -> Turn:
        await self.load()
        turn = await self.driver.ask(url, system, question, fast=fast)
        turn.load = await self.load()
        return turn


async def _measure(args: argparse.Namespace, settings: Settings) -> _Measured:
    clock = MonotonicClock()
    connect = open_session(args.key)
    told = await greeting(connect, args.url) if args.url else {}  # before any other work
    _tell("preparing the questions …")
    questions = await _questions(args, settings)
    crowd = await _crowd(settings, args.sessions, args.each)
    measured = _Measured(environment(settings))
    async with AsyncExitStack() as stack:
        server = None
        urls = {OURS: str(args.url)}
        if not args.url:
            _tell("starting the server …")
            server = MeasuredServer(settings, baselines=args.baselines)
            await stack.enter_async_context(server)
            urls = server.urls
            measured.environment |= {"server": server.facts}
        measured.environment |= {
            "url": args.url or "a server of our own, on this machine",
            "labels": sorted({question.label for question in questions}),
            "baselines_paced": bool(args.paced_baselines),
        }
        if args.url:  # another's options are not ours to know
            named = {"version": told.get("version", "?"), "models": told.get("models", {})}
            measured.environment |= named | {"endpoint_ms": {}}
        probe = _Probe(Driver(connect, clock), clock, server)
        for n in range(WARM_UP):
            for system, url in urls.items():
                question = questions[n % len(questions)]
                fast = system != OURS and not args.paced_baselines
                measured.warm_up.append(await probe.ask(url, system, question, fast=fast))
        for number, question in enumerate(questions, 1):
            shown = []
            for system, url in urls.items():
                fast = system != OURS and not args.paced_baselines
                turn = await probe.ask(url, system, question, fast=fast)
                measured.turns.append(turn)
                shown.append(table.one(turn))
            _tell(f"{number}/{len(questions)} {question.id}: {', '.join(shown)}")
        listening = _Probe(Driver(connect, clock, whole=True), clock, server)
        for n_sessions in args.sessions:
            entry = await _many(listening, urls[OURS], crowd, n_sessions, args)
            measured.sessions.append(entry)
            _tell(table.crowd(entry))
            if not entry["holds"]:
                break
    return measured


async def _many(
    probe: _Probe, url: str, questions: Sequence[Question], n: int, args: argparse.Namespace
) -> dict[str, Any]:
    """So many listeners at once. Each asks, hears the reply out, and asks again."""
    rounds = max(2, -(-args.each // n))

    async def listener(number: int) -> list[Turn]:
        # Spread over one question: people do not begin to speak in step.
        await asyncio.sleep(number * CROWD_LENGTH / n)
        mine = [questions[(number * rounds + i) % len(questions)] for i in range(rounds)]
        return [await probe.driver.ask(url, OURS, question) for question in mine]

    await probe.load()
    async with asyncio.TaskGroup() as tasks:
        talks = [tasks.create_task(listener(number)) for number in range(n)]
    turns = [turn for talk in talks for turn in talk.result()]
    return results.session_entry(n, turns, bound_s=args.bound_ms / 1000, load=await probe.load())


async def _questions(args: argparse.Namespace, settings: Settings) -> list[Question]:
    if args.manifest:
        return recorded_questions(settings, args.manifest, args.lengths, args.limit)
    return await spoken_questions(settings, args.lengths, args.each)


async def _crowd(settings: Settings, sessions: Sequence[int], each: int) -> list[Question]:
    if not sessions:
        return []
    wanted = min(20, max(each, 2 * max(sessions)))
    questions = await spoken_questions(settings, (CROWD_LENGTH,), wanted)
    assert all(question.group == group_of(CROWD_LENGTH) for question in questions)
    return questions


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(float(word) for word in text.split(","))
    if not all(0.5 <= value <= 60 for value in values):
        raise argparse.ArgumentTypeError("give lengths of 0.5 to 60 s, like 2,5,10")
    return values


def _counts(text: str) -> tuple[int, ...]:
    values = tuple(int(word) for word in text.split(","))
    if not all(1 <= value <= 1000 for value in values):
        raise argparse.ArgumentTypeError("give numbers of sessions, like 1,2,4")
    return values


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
