"""What `textpro eval long` found, as figures, a table and a page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from textpro_stream.evaluate.page import Curve, curves, heading, page, table
from textpro_stream.evaluate.score import Summary

_MINUTES = "minutes"


@dataclass(frozen=True, slots=True)
class Look:
    """How things stand at some place of the recording."""

    at_s: float
    cpu_s: float  # so far
    hearing_s: float  # of work, likewise
    reading_s: float  # of the LLM's
    rss_mib: float
    rows: int  # of the LLM's cache


@dataclass(slots=True)
class Course:
    """One conversation of one length."""

    length_s: float
    wer: float | None = None  # percent; None: nobody knows what was said
    words: int = 0  # that were heard
    turns: int = 0
    windows: int = 0  # of prosody
    wall_s: float = 0.0
    lags: list[tuple[float, float]] = field(default_factory=list)  # where, and how long, seconds
    looks: list[Look] = field(default_factory=list)  # from the first sample to the last

    def per_second(self) -> list[tuple[float, float, float, float]]:
        """Between looks: where it ends, and CPU, hearing and reading a second of audio."""
        return [
            (
                b.at_s,
                (b.cpu_s - a.cpu_s) / (b.at_s - a.at_s),
                (b.hearing_s - a.hearing_s) / (b.at_s - a.at_s),
                (b.reading_s - a.reading_s) / (b.at_s - a.at_s),
            )
            for a, b in pairwise(self.looks)
            if b.at_s > a.at_s
        ]

    def figures(self) -> dict[str, float | int | None]:
        """What the table and the JSON line hold."""
        first, last = self.looks[0], self.looks[-1]
        lag = Summary.of([lag for _, lag in self.lags])
        return {
            "length_s": round(self.length_s, 1),
            "wer": None if self.wer is None else round(self.wer, 2),
            "words": self.words,
            "turns": self.turns,
            "windows": self.windows,
            "lag_mean_s": round(lag.mean, 3),
            "lag_p50_s": round(lag.p50, 3),
            "lag_p95_s": round(lag.p95, 3),
            "cpu_per_s": round((last.cpu_s - first.cpu_s) / self.length_s, 4),
            "hearing_per_s": round((last.hearing_s - first.hearing_s) / self.length_s, 4),
            "reading_per_s": round((last.reading_s - first.reading_s) / self.length_s, 4),
            "wall_per_s": round(self.wall_s / self.length_s, 4),
            "rss_begin_mib": round(first.rss_mib, 1),
            "rss_end_mib": round(last.rss_mib, 1),
            "rss_most_mib": round(max(look.rss_mib for look in self.looks), 1),
            "rows_most": max(look.rows for look in self.looks),
        }


def rows(courses: Sequence[Course]) -> tuple[list[str], list[list[str]]]:
    """The table, a line a length."""
    head = ["length", "words (WER)", "turns", "prosody windows", "lag mean, median, p95"]
    head += [
        "CPU a second",
        "at work: hearing, LLM",
        "wall",
        "memory: begin, end, most",
        "LLM rows",
    ]
    return head, [list(_row(course)) for course in courses]


def _row(course: Course) -> Iterator[str]:
    told = course.figures()
    yield f"{course.length_s / 60:.1f} min"
    yield f"{course.words}" + ("" if course.wer is None else f" ({course.wer:.1f} %)")
    yield str(course.turns)
    yield str(course.windows)
    yield f"{told['lag_mean_s']:.2f}, {told['lag_p50_s']:.2f}, {told['lag_p95_s']:.2f} s"
    yield f"{told['cpu_per_s']:.3f} s"
    yield f"{told['hearing_per_s']:.3f}, {told['reading_per_s']:.3f} s"
    yield f"{told['wall_per_s']:.2f} of its length"
    yield f"{told['rss_begin_mib']:.0f}, {told['rss_end_mib']:.0f}, {told['rss_most_mib']:.0f} MiB"
    yield f"{told['rows_most']} at most"


def draw(courses: Sequence[Course]) -> str:
    """The page: the table, and the longest conversation over its time."""
    longest = max(courses, key=lambda course: course.length_s)
    cost = longest.per_second()
    looks = longest.looks
    parts = [
        table(*rows(courses)),
        heading("Cost along the longest"),
        curves(
            "cost",
            [
                Curve("CPU", [(at / 60, cpu) for at, cpu, _, _ in cost]),
                Curve("hearing", [(at / 60, hearing) for at, _, hearing, _ in cost]),
                Curve("the LLM reading along", [(at / 60, read) for at, _, _, read in cost]),
            ],
            _MINUTES,
            "seconds a second of audio",
        ),
        heading("Lag of words"),
        curves("lag", [Curve("lag", _lag_course(longest))], _MINUTES, "mean seconds"),
        heading("Memory"),
        curves(
            "memory",
            [Curve("memory", [(look.at_s / 60, look.rss_mib) for look in looks])],
            _MINUTES,
            "MiB",
        ),
        heading("Rows in the LLM's cache"),
        curves(
            "rows",
            [Curve("rows", [(look.at_s / 60, look.rows) for look in looks])],
            _MINUTES,
            "rows",
        ),
    ]
    return page("One long conversation", "As fast as the machine can, without replies.", parts)


def _lag_course(course: Course) -> list[tuple[float, float]]:
    """Mean lag between looks, in minutes and seconds; nothing where nothing was said."""
    points = []
    for a, b in pairwise(course.looks):
        found = [lag for at_s, lag in course.lags if a.at_s < at_s <= b.at_s]
        if found:
            points.append((b.at_s / 60, sum(found) / len(found)))
    return points
