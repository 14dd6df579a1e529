"""How long an LLM behind a URL takes to its first word, read along or not.

    textpro bench prefill --llm http://localhost:8080/v1
    textpro bench prefill --llm http://localhost:11434/v1#llama3.2 --each 20 --lengths 5,20

Questions are told word by word at the pace of speech, the last second of each at its end, as a
recogniser would; then the time from there to the first word of the reply is taken. Each length is
asked in turns with and without reading along, and each time in new words, so that the server knows
none of them. No audio, no recogniser: what is measured is the server and the way to it.
The last line on standard output is the result as one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from textpro_stream.bench.figures import ratio_of_medians, summarise
from textpro_stream.bench.machine import environment
from textpro_stream.bench.questions import LENGTHS, TOPICS
from textpro_stream.clock import MonotonicClock
from textpro_stream.config import LlmOptions, Settings
from textpro_stream.contracts import GenerationEnd, OpenTurn, ReplyOptions, TextDelta, TokenSpan
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.llm.remote import RemoteEngine, open_remote
from textpro_stream.ports import Clock
from textpro_stream.telemetry.trace import Unobserved

WORDS_PER_S = 2.75  # 165 a minute, the default voice's pace
UNHEARD_S = 1.0  # what a recogniser has not committed yet when the speaker stops
REPLY = ReplyOptions(max_tokens=8)  # the first is timed, the last tells what was cached


@dataclass(frozen=True, slots=True)
class Measured:
    """One question."""

    length_s: float
    along: bool  # read along while it was spoken
    ttft_s: float  # from its end to the reply's first word
    prompt_tokens: int | None
    cached_tokens: int | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro bench prefill`."""
    parser.add_argument("--each", metavar="N", type=int, default=10, help="of each length (10)")
    parser.add_argument(
        "--lengths",
        metavar="S[,S…]",
        type=lambda text: tuple(float(part) for part in text.split(",")),
        default=LENGTHS,
        help="of the questions, in seconds (2,5,10,20)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the result")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print.

    Raises:
        ConfigError: no server is named.
        StageError: it cannot be had.
    """
    if args.each < 1 or not all(length > 0 for length in args.lengths):
        raise ConfigError("--each and --lengths: give more than 0")
    result = asyncio.run(measure(settings, args.lengths, args.each, MonotonicClock(), tell=_tell))
    print(text(result))
    line = json.dumps(result, ensure_ascii=False, allow_nan=False)
    if args.json:
        args.json.write_text(line + "\n", encoding="utf-8")
    print(line)
    return 0


async def measure(
    settings: Settings,
    lengths: Sequence[float],
    each: int,
    clock: Clock,
    *,
    tell: Any = None,
) -> dict[str, Any]:
    """Ask so many questions of each length, with and without reading along.

    Args:
        settings: `[llm]` names the server.
        lengths: of the questions, in seconds.
        each: of a length, both ways.
        clock: paces and times.
        tell: called with a line about each.
    """
    engine = open_remote(settings.llm)
    if engine is None:
        raise ConfigError("bench prefill measures an LLM by URL: give --llm http://HOST:PORT/v1")
    measured: list[Measured] = []
    try:
        server = await engine.check()
        questions = _questions()
        await _ask(engine, settings.llm, next(questions), 2.0, False, clock)  # warm
        for i in range(each):
            for length in lengths:
                for along in (True, False) if i % 2 else (False, True):
                    one = await _ask(engine, settings.llm, next(questions), length, along, clock)
                    measured.append(one)
                    if tell is not None:
                        tell(f"{i + 1}/{each}: {length:g} s, {_way(along)}: {one.ttft_s:.3f} s")
    finally:
        await engine.close()
    return {
        "environment": environment(settings),
        "server": server,
        "by_length": {f"{length:g}": _compared(measured, length) for length in lengths},
        "growth_ms_per_s": {_way(along): _growth(measured, along) for along in (True, False)},
        "measured": [asdict(one) for one in measured],
    }


def text(result: dict[str, Any]) -> str:
    """The result as a table."""
    lines = [result["server"], "", "time to the first word, median in ms (n; cached of prompt)"]
    lines.append(f"{'question':>10}{'read along':>24}{'at once':>24}{'ratio':>8}")
    for length, entry in result["by_length"].items():
        cells = [
            f"{1000 * side['ttft_s']['p50']:.0f} ({side['ttft_s']['n']}; {side['cached']})"
            for side in (entry["read along"], entry["at once"])
        ]
        value = entry["ratio"]["value"]
        ratio = "" if value is None else f"{value:.2f}"
        lines.append(f"{length + ' s':>10}{cells[0]:>24}{cells[1]:>24}{ratio:>8}")
    growth = result["growth_ms_per_s"]
    if None not in growth.values():
        lines.append(
            f"each second of question adds {growth['read along']:.0f} ms where it is read along,"
            f" {growth['at once']:.0f} ms where it is not"
        )
    return "\n".join(lines)


async def _ask(
    engine: RemoteEngine,
    options: LlmOptions,
    words: Sequence[str],
    length_s: float,
    along: bool,
    clock: Clock,
) -> Measured:
    """One question in a conversation of its own."""
    words = words[: max(1, round(length_s * WORDS_PER_S))]
    heard = max(0, len(words) - round(UNHEARD_S * WORDS_PER_S))
    dialogue = engine.open(replace(options, prefill=along), Unobserved())
    try:
        await dialogue.follow(OpenTurn(0))
        began = clock.now()
        for n in range(1, heard + 1) if along else ():
            await clock.sleep_until(began + n / WORDS_PER_S)
            await dialogue.follow(_turn(words[:n]))
        if along:
            await clock.sleep_until(began + length_s)
        await dialogue.follow(_turn(words, over=True))
        ended, first, end = clock.now(), None, None
        async with aclosing(dialogue.reply(1, REPLY)) as deltas:
            async for delta in deltas:
                if first is None and isinstance(delta, TextDelta):
                    first = clock.now()
                if isinstance(delta, GenerationEnd):
                    end = delta
    finally:
        await dialogue.close()
    if first is None or end is None:
        raise StageError("the LLM replied without a word; bench prefill needs one that talks")
    return Measured(length_s, along, first - ended, end.prompt_tokens, end.cached_tokens)


def _questions() -> Iterator[list[str]]:
    """Endless words each time, that begin otherwise each time."""
    for number in range(1, 1_000_000):
        topics = [topic.replace(" |", "").split() for topic in TOPICS]
        first = number % len(topics)
        words = [word for topic in topics[first:] + topics[:first] for word in topic]
        yield [str(number), *islice(cycle(words), 400)]


def _turn(words: Sequence[str], *, over: bool = False) -> OpenTurn:
    said = " ".join(words)
    return OpenTurn(1, (TokenSpan((), said, 0, 0, 0.0, None),), over=over)


def _compared(measured: Sequence[Measured], length_s: float) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    waits: list[list[float]] = []
    for along in (True, False):
        ours = [one for one in measured if (one.length_s, one.along) == (length_s, along)]
        waits.append([one.ttft_s for one in ours])
        sides[_way(along)] = {"ttft_s": summarise(waits[-1]), "cached": _cached(ours)}
    return sides | {"ratio": ratio_of_medians(*waits).as_json()}


def _cached(measured: Sequence[Measured]) -> str:
    """Medians; "?" where the server does not tell."""
    figures = []
    for values in (
        [one.cached_tokens for one in measured],
        [one.prompt_tokens for one in measured],
    ):
        known = [value for value in values if value is not None]
        figures.append(f"{median(known):.0f}" if known else "?")
    return " of ".join(figures)


def _growth(measured: Sequence[Measured], along: bool) -> float | None:
    """By how many ms a second more of question delays the reply; None for a single length."""
    ours = [one for one in measured if one.along is along]
    lengths = [one.length_s for one in ours]
    if len(set(lengths)) < 2:
        return None
    return round(1000 * float(np.polyfit(lengths, [one.ttft_s for one in ours], 1)[0]), 2)


def _way(along: bool) -> str:
    return "read along" if along else "at once"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
