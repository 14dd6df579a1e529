"""What a server process holds, sampled from outside, and whether any of it grows.

A slope is the median of the slopes between all pairs of samples (Theil-Sen): a burst, or the last
client that had not left yet, does not move it. Only the second half of the samples counts, because
a process that has just started grows for good reasons.
"""

from __future__ import annotations

import os
import statistics
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

from textpro_stream.errors import DeviceError

MIB = 2**20
MEMORY = ("rss_mib", "children_rss_mib")
COUNTS = ("fds", "threads", "children", "tasks", "sessions")
# Growth over the second half that is more than noise.
MEMORY_SHARE, MEMORY_MIB = 0.05, 8.0  # of the median; the greater one counts
COUNT_SHARE, COUNT_LEAST = 0.10, 2.0  # likewise
# Slopes speak from here on. A server at rest has given its memory back and takes minutes to have
# its fill again; and what a session holds swings with what it does just then. In a shorter run,
# whether all comes back when everybody has left says enough: of counts, not one may stay.
WARM_S = 600.0


@dataclass(frozen=True, slots=True)
class Vitals:
    """One sample."""

    at_s: float  # since sampling began
    rss_mib: float
    children_rss_mib: float  # of the processes it started: the voice
    fds: float
    threads: float
    children: float
    tasks: float  # of its event loop
    sessions: float


class Monitor:
    """Looks at a process and its `/metrics`.

    Raises:
        DeviceError: this system has no /proc.
    """

    def __init__(self, pid: int, metrics_url: str) -> None:
        if not Path("/proc/self/statm").exists():
            raise DeviceError("a soak reads /proc; run it on Linux")
        self._process, self._url = Path(f"/proc/{pid}"), metrics_url
        self.figures: dict[str, float] = {}  # of the last look at /metrics, by their full name

    def look(self, at_s: float) -> Vitals:
        """Now. Blocks for some milliseconds."""
        self.figures = _figures(self._url)
        children = self._children()
        return Vitals(
            at_s=round(at_s, 2),
            rss_mib=_rss_mib(self._process),
            children_rss_mib=round(sum(_rss_mib(Path(f"/proc/{pid}")) for pid in children), 2),
            fds=len(os.listdir(self._process / "fd")),
            threads=len(os.listdir(self._process / "task")),
            children=len(children),
            tasks=self.figures.get("textpro_asyncio_tasks", 0.0),
            sessions=self.total("textpro_sessions"),
        )

    def total(self, name: str) -> float:
        """A figure of the last look, all its labels together."""
        return sum(v for k, v in self.figures.items() if k.partition("{")[0] == name)

    def by_label(self, name: str) -> dict[str, float]:
        """The same, by the value of its only label."""
        found = {k: v for k, v in self.figures.items() if k.startswith(f"{name}{{")}
        return {k.split('"')[1]: v for k, v in found.items()}

    def _children(self) -> list[int]:
        tasks = self._process / "task"
        lists = [(tasks / task / "children").read_text() for task in os.listdir(tasks)]
        return [int(pid) for line in lists for pid in line.split()]


@dataclass(frozen=True, slots=True)
class Trend:
    """How one quantity developed."""

    start: float  # before the first client
    end: float  # after the last one
    median: float  # of the second half
    slope_per_min: float  # in the second half
    growth: float  # over the second half, by that slope
    allowed: float  # growth that passes

    @property
    def grows(self) -> bool:
        """It does, by more than noise."""
        return self.growth > self.allowed


def trends(before: Vitals, samples: Sequence[Vitals], after: Vitals) -> dict[str, Trend]:
    """Every quantity's development."""
    return {name: _trend(name, before, samples, after) for name in (*MEMORY, *COUNTS)}


def complaints(before: Vitals, samples: Sequence[Vitals], after: Vitals) -> list[str]:
    """What grew, and what did not go back when everybody had left; empty is good."""
    grown = [
        f"{name} grows by {trend.slope_per_min:.3g} a minute"
        for name, trend in trends(before, samples, after).items()
        if trend.grows and samples[-1].at_s >= WARM_S
    ]
    then, now = asdict(before), asdict(after)
    left = [
        f"{name}: {now[name]:g} after everybody left, {then[name]:g} before"
        for name in (*MEMORY, *COUNTS)
        if now[name] > then[name] + (_allowed(name, then[name]) if name in MEMORY else 0)
    ]
    return grown + left


def slope(points: Sequence[tuple[float, float]], alike: Sequence[float] = ()) -> float:
    """Median of the slopes between all pairs of points, y per x; 0 for less than two.

    Args:
        points: (x, y).
        alike: of each point, what has to be the same in both of a pair.
    """
    groups = alike or [0.0] * len(points)
    pairs = combinations(zip(points, groups, strict=True), 2)
    slopes = [
        (y2 - y1) / (x2 - x1)
        for ((x1, y1), group1), ((x2, y2), group2) in pairs
        if x2 > x1 and group1 == group2
    ]
    return statistics.median(slopes) if slopes else 0.0


def _trend(name: str, before: Vitals, samples: Sequence[Vitals], after: Vitals) -> Trend:
    half = samples[len(samples) // 2 :]
    points = [(sample.at_s / 60, float(getattr(sample, name))) for sample in half]
    middle = statistics.median(value for _, value in points) if points else 0.0
    # A session has tasks and descriptors of its own: what grows does so among as many sessions.
    alike = [sample.sessions for sample in half] if name in COUNTS and name != "sessions" else []
    per_min = slope(points, alike)
    return Trend(
        start=getattr(before, name),
        end=getattr(after, name),
        median=middle,
        slope_per_min=round(per_min, 4),
        growth=round(per_min * (points[-1][0] - points[0][0]), 3) if points else 0.0,
        allowed=round(_allowed(name, middle), 3),
    )


def _allowed(name: str, usual: float) -> float:
    """By how much it may differ and be called the same."""
    share, least = (MEMORY_SHARE, MEMORY_MIB) if name in MEMORY else (COUNT_SHARE, COUNT_LEAST)
    return max(least, share * usual)


def _figures(url: str) -> dict[str, float]:
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # our own server
    with straight.open(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def _rss_mib(process: Path) -> float:
    try:
        pages = int((process / "statm").read_text().split()[1])
    except (OSError, IndexError):  # it has just ended
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / MIB, 2)
