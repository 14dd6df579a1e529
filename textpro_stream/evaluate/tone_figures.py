"""Answers to turns as figures with intervals: one part of a manifest, in three columns. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import AGITATED
from textpro_stream.evaluate.bootstrap import interval
from textpro_stream.evaluate.said import PLAIN
from textpro_stream.evaluate.tone_answers import Answer
from textpro_stream.llm.tags import ADJECTIVES

COLUMNS = ("true tone", "another clip's", "words only")
NEUTRAL = frozenset({PLAIN, "neutral"})
WORDS = ADJECTIVES | {"neutral": "calm"}  # of the labels, in an answer
_ENOUGH = 5  # speakers that are drawn anew as such; of fewer, clips are

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and where 95 % of it lies when speakers, or few speakers' clips, are drawn anew."""

    value: float | None  # None: there is nothing that it could be of
    low: float | None
    high: float | None
    n: int  # clips

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: what it is, and its three columns."""

    name: str
    columns: tuple[Estimate, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """A clip and its answers, in the order of `COLUMNS`."""

    label: str  # `PLAIN`: nobody named one
    speaker: str
    answers: tuple[Answer, ...]


Count = Callable[[Answered, Answer], tuple[float, float]]  # what is counted, and of how many


def figures(clips: Sequence[Answered]) -> list[Figure]:
    """All rows of a part; those for which it has no clips are left out.

    Shares are 0 to 1; divergences nats a token.
    """
    neutral = [clip for clip in clips if clip.label in NEUTRAL]
    felt = [clip for clip in clips if clip.label not in NEUTRAL]
    named = [clip for clip in clips if clip.label in WORDS]
    told = [clip for clip in named if clip.answers[0].tag]
    n_labels = len({clip.label for clip in named})
    rows: list[tuple[str, Sequence[Answered], Count]] = [
        ("how do I sound? as was told", named, _as_told),
        (f"how do I sound? right of {n_labels} labels", named, _right),
        ("likewise, where the true tone is told", told, _right),
        ("a tone is told, of neutral clips", neutral, lambda clip, a: (bool(a.tag), 1)),
        ("a tone is told, of all others", felt, lambda clip, a: (bool(a.tag), 1)),
        ("what did I say? own words picked from four", clips, lambda clip, a: (a.knows, 1)),
        ("likewise, answered the same", clips, lambda clip, a: (a.said.same, 1)),
        ("likewise, first choices equal", clips, lambda clip, a: (a.said.equal, a.said.tokens)),
    ]
    for name, some in (("neutral", neutral), ("all other", felt)):
        rows += [
            (f"reply to {name} clips: divergence a token", some, _divergence),
            (f"reply to {name} clips: first choices equal", some, _equal),
            (f"reply to {name} clips: the same", some, lambda clip, a: (a.reply.same, 1)),
        ]
    return [
        Figure(name, tuple(estimate(some, i, count) for i in range(len(COLUMNS))))
        for name, some, count in rows
        if some
    ]


def estimate(clips: Sequence[Answered], column: int, count: Count) -> Estimate:
    """One figure of some clips: a sum over a sum."""
    pairs = np.array([count(clip, clip.answers[column]) for clip in clips], np.float64)
    speakers = np.unique([clip.speaker for clip in clips], return_inverse=True)[1]
    groups = speakers if speakers.max() + 1 >= _ENOUGH else np.arange(len(clips))

    def figure(drawn: NDArray[np.int_]) -> float:
        n = pairs[drawn, 1].sum()
        return float(pairs[drawn, 0].sum() / n) if n else float("nan")

    if not pairs[:, 1].any():
        return Estimate(None, None, None, len(pairs))
    low, high = interval(figure, groups)
    return Estimate(figure(np.arange(len(pairs))), low, high, len(pairs))


def _right(clip: Answered, answer: Answer) -> tuple[float, float]:
    return answer.sounds == WORDS[clip.label], 1


def _as_told(_: Answered, answer: Answer) -> tuple[float, float]:
    """Of what is said of an emotion; agitated is none of the labels."""
    told = bool(answer.tag) and AGITATED not in answer.tag
    return told and f" {answer.sounds}." in answer.tag, told


def _divergence(_: Answered, answer: Answer) -> tuple[float, float]:
    return answer.reply.divergence, answer.reply.tokens


def _equal(_: Answered, answer: Answer) -> tuple[float, float]:
    return answer.reply.equal, answer.reply.tokens
