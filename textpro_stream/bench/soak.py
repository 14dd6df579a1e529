"""Whether a server grows: a crowd that talks, interrupts, vanishes, stalls and returns.

    textpro bench soak                             30 minutes, 4 clients on both routes
    textpro bench soak --minutes 3 --clients 2 --json soak.json

A `textpro serve` of its own, with the real models. Every few seconds its memory, file descriptors,
threads, tasks and sessions are sampled; at the end everybody leaves, and it must be as it was
before the first came; memory, within 5 %. A count passes if its slope over the second half adds no
more than 10 % (at least 2); so does memory, from ten minutes on, if it adds no more than 5 % (at
least 8 MiB). The last line on standard output is the result as one JSON object; the exit status is
1 if anything grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from textpro_stream.bench.crowd import HABITS, ROUTES, Notes, Person
from textpro_stream.bench.figures import summarise
from textpro_stream.bench.machine import environment
from textpro_stream.bench.questions import spoken_questions
from textpro_stream.bench.vitals import Monitor, Vitals, complaints, trends
from textpro_stream.clock import MonotonicClock
from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError, DeviceError
from textpro_stream.ports import Clock

LENGTHS, EACH = (2.0, 5.0), 3  # of the questions
SAMPLED_S = 5.0
SETTLES_S = 20.0  # after the last client left; memory goes back after ten
STARTS = "import sys; from textpro_stream.cli.main import main; sys.exit(main())"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro bench soak`."""
    parser.add_argument("--minutes", metavar="M", type=float, default=30.0, help="how long (30)")
    parser.add_argument("--clients", metavar="N", type=int, default=4, help="at once (4)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of what clients do")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the result")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Soak, print; 0 if nothing grew."""
    if args.minutes <= 0 or args.clients < 1:
        raise ConfigError("--minutes and --clients: give more than 0")
    result = asyncio.run(_soak(args, settings))
    print(_text(result))
    line = json.dumps(result, ensure_ascii=False, allow_nan=False)
    if args.json:
        args.json.write_text(line + "\n", encoding="utf-8")
    print(line)
    return 1 if result["complaints"] else 0


async def _soak(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    clock, notes = MonotonicClock(), Notes()
    questions = [q.audio for q in await spoken_questions(settings, LENGTHS, EACH)]
    async with _serving(settings) as (pid, port, log):
        monitor = Monitor(pid, f"http://127.0.0.1:{port}/metrics")
        person = partial(
            Person, f"ws://127.0.0.1:{port}/v1", questions=questions, notes=notes, clock=clock
        )
        _tell("warming up: every habit once, on both routes …")
        for route in ROUTES:
            for habit in HABITS:
                await person(route, random=Random(args.seed)).visit(habit)
        before = await _settled(monitor, clock, None)
        people = [
            person(ROUTES[i % len(ROUTES)], random=Random(f"{args.seed} {i}"))
            for i in range(args.clients)
        ]
        samples = await _watched(people, monitor, clock, 60 * args.minutes)
        after = await _settled(monitor, clock, before)
        result = {
            "environment": environment(settings),
            "minutes": args.minutes,
            "clients": args.clients,
            "visits": dict(sorted(notes.visits.items())),
            "asked": notes.asked,
            "answered": notes.answered,
            "unanswered": notes.unanswered,
            "ended_by_server": dict(sorted(notes.ended.items())),
            "errors": dict(sorted(notes.errors.items())),
            "gap_s": summarise(notes.gaps_s),
            "turns": monitor.by_label("textpro_turns_total"),
            "replies": monitor.by_label("textpro_replies_total"),
            "barge_ins": monitor.total("textpro_barge_ins_total"),
            "hangups": monitor.by_label("textpro_hangups_total"),
            "trends": {n: asdict(t) for n, t in trends(before, samples, after).items()},
            "complaints": complaints(before, samples, after),
            "samples": [asdict(sample) for sample in samples],
        }
    if "Traceback" in (printed := log()):
        result["complaints"] = [*complaints(before, samples, after), "the server's log: " + printed]
    return result


async def _watched(
    people: Sequence[Person], monitor: Monitor, clock: Clock, duration_s: float
) -> list[Vitals]:
    """Samples while they live; then all of them leave."""
    living = [asyncio.create_task(person.live()) for person in people]
    began, samples = clock.now(), list[Vitals]()
    try:
        while (at := clock.now() - began) < duration_s:
            samples.append(await asyncio.to_thread(monitor.look, at))
            if sys.stderr.isatty():
                now = samples[-1]
                _tell(f"{at / 60:5.1f} min  {now.rss_mib:.0f} MiB  {now.sessions:g} sessions", "\r")
            for task in living:
                if task.done():
                    task.result()  # a mistake of ours
            await clock.sleep_until(began + at + SAMPLED_S)
    finally:
        for task in living:
            task.cancel()
        await asyncio.wait(living)
    return samples


async def _settled(monitor: Monitor, clock: Clock, goal: Vitals | None) -> Vitals:
    """The server at rest: as it was before, or else after a while."""
    ends = clock.now() + SETTLES_S
    while True:
        now = await asyncio.to_thread(monitor.look, 0.0)
        if clock.now() > ends or (goal is not None and not complaints(goal, [], now)):
            return now
        await clock.sleep_until(clock.now() + 0.5)


@asynccontextmanager
async def _serving(settings: Settings) -> AsyncIterator[tuple[int, int, Any]]:
    """A `textpro serve`; its process id, its port, and what it has printed."""
    lines: list[str] = []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        STARTS,
        "serve",
        "--port",
        "0",
        env={**os.environ, **_environment(settings)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    port = 0
    async for line in process.stdout:
        lines.append(line.decode())
        if found := re.search(r"ws://127\.0\.0\.1:(\d+)/", lines[-1]):
            port = int(found[1])
            break
    if not port:
        raise DeviceError(f"the server did not start: {' '.join(''.join(lines).split())}")
    reading = asyncio.create_task(_collect(process.stdout, lines))
    try:
        yield process.pid, port, lambda: "".join(lines)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            process.kill()
        await reading


async def _collect(stream: asyncio.StreamReader, lines: list[str]) -> None:
    async for line in stream:
        lines.append(line.decode())


def _environment(settings: Settings) -> dict[str, str]:
    """The same settings for another process, less `[server]`: variables as `cli/` reads them."""
    variables = {}
    for section in fields(settings):
        if section.name == "server":
            continue
        for name, value in asdict(getattr(settings, section.name)).items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            variables[f"TEXTPRO_{section.name}__{name}".upper()] = text
    return variables


def _text(result: dict[str, Any]) -> str:
    """For a person."""
    rows = [f"{'':18}{'before':>9}{'after':>9}{'slope/min':>11}{'growth':>9}{'allowed':>9}"]
    rows += [
        f"{name:18}{t['start']:9.1f}{t['end']:9.1f}{t['slope_per_min']:11.3f}"
        f"{t['growth']:9.2f}{t['allowed']:9.2f}"
        for name, t in result["trends"].items()
    ]
    turns, replies = (int(sum(result[name].values())) for name in ("turns", "replies"))
    rows += [
        "",
        f"{result['minutes']:g} minutes, {result['clients']} clients,"
        f" {sum(result['visits'].values())} visits: {turns} turns, {replies} replies,"
        f" {result['barge_ins']:g} interrupted; asked {result['asked']},"
        f" {result['unanswered']} without an answer",
        *(f"GROWS: {complaint}" for complaint in result["complaints"]),
    ]
    return "\n".join(rows) if result["complaints"] else "\n".join([*rows, "nothing grows"])


def _tell(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)
