"""Turns -> the figures that are reported. Pure; its result is what `--json` writes.

kind, version     "textpro bench latency", 1
environment       machine, versions, models, endpoint settings
systems           name -> group ("2 s" …) -> turns, answered, cut_off, ready, check_failed and
                  `figures`: name -> n, p50, p90, p95, p99, max; seconds
gains             group -> baseline -> ratio of medians of user_perceived, baseline over ours,
                  with a 95 % interval
growth            name -> figure -> seconds by which it grows per second of question
sessions          one entry for each number of sessions at once
turns, warm_up    every turn as it was measured
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from textpro_stream.bench.drive import ADDS_UP_S, Turn
from textpro_stream.bench.figures import quantile, ratio_of_medians, summarise
from textpro_stream.bench.serve import OURS

KIND, VERSION = "textpro bench latency", 1

FIGURES = (  # of the client first, then the server's
    "user_perceived",
    "true_endpoint_delay",
    "first_token_seen",
    "silent_lead",
    "network",
    "speech_end_error",
    "unexplained",
    "server_perceived",
    "endpoint_wait",
    "asr_lag",
    "ttft_commit",
    "ttft_ready",
    "tts_ttfb",
)
GROWING = ("user_perceived", "server_perceived", "ttft_commit", "ttft_ready")


def summary(
    environment: dict[str, Any],
    turns: Sequence[Turn],
    warm_up: Sequence[Turn],
    sessions: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The whole result."""
    names = list(dict.fromkeys(turn.system for turn in turns))
    return {
        "kind": KIND,
        "version": VERSION,
        "environment": environment,
        "systems": {
            name: {group: _group(_of(turns, name, group)) for group in groups(turns)}
            for name in names
        },
        "gains": {
            group: {
                name: gain(_of(turns, OURS, group), _of(turns, name, group))
                for name in names
                if name != OURS
            }
            for group in groups(turns)
            if OURS in names and len(names) > 1
        },
        "growth": {
            name: {figure: growth(_of(turns, name), figure) for figure in GROWING} for name in names
        },
        "sessions": list(sessions),
        "turns": [turn.as_json() for turn in turns],
        "warm_up": [turn.as_json() for turn in warm_up],
    }


def groups(turns: Sequence[Turn]) -> list[str]:
    """Names of the groups, shortest questions first."""
    return sorted(dict.fromkeys(turn.group for turn in turns), key=lambda g: float(g.split()[0]))


def values(turns: Sequence[Turn], figure: str) -> list[float]:
    """One figure of all turns that have it and were not cut off.

    A turn that was answered in the middle of the question would look fast.
    """
    found = [turn.figure(figure) for turn in turns if not turn.false_endpoints]
    return [value for value in found if value is not None]


def gain(ours: Sequence[Turn], theirs: Sequence[Turn]) -> dict[str, Any]:
    """How many times as long a listener waits without streaming."""
    figure = "user_perceived"
    ratio = ratio_of_medians(values(theirs, figure), values(ours, figure))
    return {"figure": figure, **ratio.as_json()}


def growth(turns: Sequence[Turn], figure: str) -> float | None:
    """Seconds by which a figure grows with each second of question: a least-squares line.

    None where all questions are of one length.
    """
    points = [
        (turn.speech_s, value)
        for turn in turns
        if not turn.false_endpoints and (value := turn.figure(figure)) is not None
    ]
    lengths = [length for length, _ in points]
    if not points or max(lengths) - min(lengths) < 1.0:
        return None
    slope = np.polyfit(lengths, [value for _, value in points], 1)[0]
    return round(float(slope), 5)


def session_entry(
    n_sessions: int, turns: Sequence[Turn], *, bound_s: float, load: dict[str, float]
) -> dict[str, Any]:
    """What so many talks at once came to."""
    perceived = values(turns, "server_perceived")
    p95 = quantile(perceived, 95) if perceived else None
    answered = sum(turn.status == "ok" for turn in turns)
    return {
        "sessions": n_sessions,
        "turns": len(turns),
        "answered": answered,
        "cut_off": sum(turn.false_endpoints > 0 for turn in turns),
        "failures": sorted({turn.status for turn in turns} - {"ok"}),
        "server_perceived": summarise(perceived),
        "user_perceived": summarise(values(turns, "user_perceived")),
        "bound_s": bound_s,
        "holds": p95 is not None and p95 <= bound_s and answered == len(turns),
        "load": load,
    }


def _of(turns: Sequence[Turn], system: str, group: str | None = None) -> list[Turn]:
    return [t for t in turns if t.system == system and group in (None, t.group)]


def _group(turns: Sequence[Turn]) -> dict[str, Any]:
    answered = [turn for turn in turns if turn.status == "ok"]
    missing = values(answered, "unexplained")
    return {
        "turns": len(turns),
        "answered": len(answered),
        "cut_off": sum(turn.false_endpoints > 0 for turn in turns),
        "ready": sum(value <= 0 for value in values(answered, "ttft_ready")),
        "check_failed": sum(abs(value) > ADDS_UP_S for value in missing),
        "waste_tokens": _per_turn(answered, "spec_waste"),
        "waste_speech_s": _per_turn(answered, "spec_waste_speech_s"),
        "figures": {figure: summarise(values(answered, figure)) for figure in FIGURES},
    }


def _per_turn(turns: Sequence[Turn], name: str) -> float | None:
    """What was made in vain, spread over all turns: a price, not a latency, so a mean."""
    wasted = [turn.marks[name] for turn in turns if name in turn.marks]
    return round(sum(wasted) / len(wasted), 3) if wasted else None
