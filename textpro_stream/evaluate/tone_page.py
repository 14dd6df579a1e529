"""What tone changes in answers, as tables and as a page that stands alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from textpro_stream.evaluate import svg
from textpro_stream.evaluate.page import heading, markdown, page
from textpro_stream.evaluate.page import table as html_table
from textpro_stream.evaluate.tone_figures import COLUMNS, Estimate, Figure

Parts = Mapping[str, Sequence[Figure]]  # by the name of a part of the manifest

_WIDTH, _LEFT, _LINE = 720.0, 320.0, 15.0
_HEAD = ("", "clips", *COLUMNS)


def table(parts: Parts) -> str:
    """All of it as markdown."""
    return "\n\n".join(
        f"{part}\n\n{markdown(_HEAD, _rows(figures))}" for part, figures in parts.items()
    )


def draw_page(parts: Parts, about: str) -> str:
    """A page: for each part its shares as bars with their intervals, and the table.

    Args:
        parts: what was measured.
        about: with what, in a sentence.
    """
    names = "".join(f'<li class="s{i}">{escape(name)}</li>' for i, name in enumerate(COLUMNS))
    drawn = (
        heading(part) + _bars(part, figures) + html_table(_HEAD, _rows(figures))
        for part, figures in parts.items()
    )
    return page("Does the answer hear the tone?", about, (f"<ul>{names}</ul>", *drawn))


def _bars(part: str, figures: Sequence[Figure]) -> str:
    shares = [figure for figure in figures if "divergence" not in figure.name]
    x = svg.Scale(0.0, 100.0, _LEFT, _WIDTH - 60.0)
    step = _LINE * (len(COLUMNS) + 1)
    height = step * len(shares) + 24
    drawn = [svg.line(x(p), 0, x(p), height - 24, "grid") for p in range(0, 101, 20)]
    drawn += [svg.label(f"{p} %", x(p), height - 8, "", "middle") for p in range(0, 101, 20)]
    for i, figure in enumerate(shares):
        top = i * step
        drawn.append(svg.label(figure.name, _LEFT - 8, top + _LINE * 1.8, "", "end"))
        for k, one in enumerate(figure.columns):
            drawn += _bar(x, top + k * _LINE + 4, one, f"s{k}", COLUMNS[k])
    return svg.drawing(drawn, _WIDTH, height, f"shares of {part}")


def _bar(x: svg.Scale, top: float, one: Estimate, style: str, name: str) -> list[str]:
    if one.value is None or one.low is None or one.high is None:
        return []
    middle = top + _LINE / 2 - 2
    told = f"{name}: {one}"
    return [
        svg.bar(x(0), top, x(100 * one.value) - x(0), _LINE - 4, f"{style} bar", told),
        svg.line(x(100 * one.low), middle, x(100 * one.high), middle, "grid"),
        svg.label(f"{100 * one.value:.0f}", x(100 * max(one.value, one.high)) + 4, middle + 4),
    ]


def _rows(figures: Sequence[Figure]) -> list[list[str]]:
    return [
        [figure.name, str(figure.columns[0].n), *map(str, figure.columns)] for figure in figures
    ]
