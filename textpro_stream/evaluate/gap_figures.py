"""What `textpro eval gap` found, as figures, a table, a JSON line and a page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from textpro_stream.evaluate.answers import Answer
from textpro_stream.evaluate.bootstrap import interval
from textpro_stream.evaluate.page import Interval, heading, intervals, markdown, page, table
from textpro_stream.evaluate.questions import Question
from textpro_stream.evaluate.score import Errors, errors

Column = Literal["text", "streamed", "record-then-run", "heard as text"]
COLUMNS: tuple[Column, ...] = get_args(Column)
Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question in one voice."""

    question: Question
    voice: str
    answers: dict[Column, Answer]
    streamed: str  # what was heard
    offline: str  # likewise
    turns: int  # that the conversation made of it; 0: it heard nothing

    def right(self, column: Column) -> bool:
        """The likeliest option is the answer."""
        return self.answers[column].chosen == self.question.answer


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure in percent, points or nats, with 95 % of what chance makes of it."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


@dataclass(frozen=True, slots=True, eq=False)
class Gap:
    """What was measured over questions of one kind of voice."""

    name: str  # "recorded" or "synthetic"
    asked: Sequence[Asked]

    @property
    def n_questions(self) -> int:
        """Each counts once, however many voices ask it."""
        return len({one.question.id for one in self.asked})

    @property
    def voices(self) -> list[str]:
        """Their names."""
        return sorted({one.voice for one in self.asked})

    def accuracy(self, column: Column) -> Figure:
        """Percent of questions that are answered rightly."""
        return self._over(self._right(column))

    def lost(self, before: Column, after: Column) -> Figure:
        """Points of accuracy that one column has and the other has not."""
        return self._over(self._right(before) - self._right(after))

    def kl(self, column: Column) -> Figure:
        """Nats a token from the reply to the text."""
        return self._over(np.array([one.answers[column].kl for one in self.asked]))

    def first(self, column: Column) -> Figure:
        """Percent of the reply's tokens that are the first choice."""
        return self._over(np.array([100 * one.answers[column].first for one in self.asked]))

    def equal(self, column: Column) -> Figure:
        """Percent of greedy replies that are the same."""
        return self._over(np.array([100.0 * one.answers[column].equal for one in self.asked]))

    def wer(self, *, offline: bool = False) -> float:
        """Percent of words that were misheard."""
        heard = (
            (one.question.text, one.offline if offline else one.streamed) for one in self.asked
        )
        return sum((errors(said, text) for said, text in heard), Errors()).wer

    def cut(self) -> float:
        """Percent of questions whose turn was ended before they were over."""
        return float(100 * np.mean([one.turns > 1 for one in self.asked]))

    def _right(self, column: Column) -> Points:
        return np.array([100.0 * one.right(column) for one in self.asked])

    def _over(self, values: Points) -> Figure:
        """The mean; the voices of one question are drawn together."""
        groups = np.unique([one.question.id for one in self.asked], return_inverse=True)[1]
        low, high = interval(lambda drawn: float(values[drawn].mean()), groups, draws=2000)
        return Figure(float(values.mean()), low, high)


def lines(gap: Gap, n_tokens: int) -> Iterator[str]:
    """What a terminal shows."""
    yield ""
    yield _what(gap)
    yield ""
    yield markdown(*_columns(gap, n_tokens))
    yield ""
    for name, figure in _parts(gap):
        yield f"{name}: {figure.value:+.1f} points [{figure.low:+.1f}, {figure.high:+.1f}]"


def _what(gap: Gap) -> str:
    return (
        f"{gap.name}: {gap.n_questions} questions, voices: {', '.join(gap.voices)}; words misheard"
        f" {gap.wer():.1f} % streamed, {gap.wer(offline=True):.1f} % offline; turns ended early in"
        f" {gap.cut():.1f} % of {len(gap.asked)}"
    )


def _columns(gap: Gap, n_tokens: int) -> tuple[list[str], list[list[str]]]:
    head = [
        "asked",
        "right, % [95 %]",
        f"KL a token, first {n_tokens} of the reply",
        "same first choice, %",
        "same reply, %",
    ]
    rows = []
    for column in COLUMNS:
        moved = ["", "", ""]
        if column != "text":
            kl = gap.kl(column)
            moved = [f"{kl.value:.3f} [{kl.low:.3f}, {kl.high:.3f}]"]
            moved += [str(gap.first(column)), str(gap.equal(column))]
        rows.append([column, str(gap.accuracy(column)), *moved])
    return head, rows


def _parts(gap: Gap) -> list[tuple[str, Figure]]:
    """The gap, and what it consists of."""
    return [
        ("gap: text - streamed", gap.lost("text", "streamed")),
        ("  by misheard words: text - heard as text", gap.lost("text", "heard as text")),
        ("  by the rest: heard as text - streamed", gap.lost("heard as text", "streamed")),
        ("gap: text - record-then-run", gap.lost("text", "record-then-run")),
        ("streaming itself: record-then-run - streamed", gap.lost("record-then-run", "streamed")),
    ]


def figures(gap: Gap) -> dict[str, object]:
    """The same as values: each figure with the two ends of its interval."""

    def told(figure: Figure) -> list[float]:
        return [round(value, 4) for value in (figure.value, figure.low, figure.high)]

    moved = [column for column in COLUMNS if column != "text"]
    return {
        "questions": gap.n_questions,
        "asked": len(gap.asked),
        "voices": gap.voices,
        "wer": round(gap.wer(), 2),
        "wer_offline": round(gap.wer(offline=True), 2),
        "cut": round(gap.cut(), 2),
        "accuracy": {column: told(gap.accuracy(column)) for column in COLUMNS},
        "kl": {column: told(gap.kl(column)) for column in moved},
        "first": {column: told(gap.first(column)) for column in moved},
        "equal": {column: told(gap.equal(column)) for column in moved},
        "points": {name.strip(): told(figure) for name, figure in _parts(gap)},
    }


def draw(gaps: Sequence[Gap], n_tokens: int) -> str:
    """The page: plots, tables, and each question whose answer was lost or won by speaking."""
    parts = []
    for gap in gaps:
        shown = [(column, gap.accuracy(column)) for column in COLUMNS]
        parts += [
            heading(gap.name.capitalize()),
            f"<p>{escape(_what(gap))}</p>",
            intervals("right", [Interval(n, f.value, f.low, f.high) for n, f in shown], " %"),
            table(*_columns(gap, n_tokens)),
            heading("Points lost"),
            intervals(
                "points lost",
                [
                    Interval(n.strip().partition(":")[0], f.value, f.low, f.high)
                    for n, f in _parts(gap)
                ],
                "",
            ),
            heading("Answers that changed"),
            table(
                ["voice", "asked", "heard", "answer to the text", "to the speech", "right is"],
                [_changed(one) for one in gap.asked if one.right("text") != one.right("streamed")],
            ),
        ]
    lead = (
        "The same questions typed and spoken. Bars: where 95 % lies when questions are drawn anew."
    )
    return page("What speaking costs", lead, parts)


def _changed(one: Asked) -> list[str]:
    options = one.question.options
    chosen = [options[one.answers[column].chosen] for column in ("text", "streamed")]
    return [one.voice, one.question.text, one.streamed, *chosen, options[one.question.answer]]
