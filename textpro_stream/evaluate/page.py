"""A page that stands alone: headings, tables and plots of a measurement. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import chain

from textpro_stream.evaluate import svg

# Of the classes s0, s1 and so on.
COLOURS = ("#1b8f88", "#c96f2c", "#7a5ac8", "#2c6fc9", "#c0392b", "#8a8f98")
_STYLE = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:820px;"
    "margin:40px auto;padding:0 20px}table{border-collapse:collapse;margin:12px 0}"
    "td,th{padding:3px 10px;border-bottom:1px solid #8885;text-align:left}"
    "svg{width:100%;height:auto}svg text{font-size:12px;fill:currentColor}"
    ".grid{stroke:#8884}.line{fill:none;stroke-width:2.2;stroke-linejoin:round}"
    + "".join(
        f".s{i}{{color:{c}}}.s{i}.line{{stroke:{c}}}.s{i}.dot,.s{i}.bar{{fill:{c}}}"
        for i, c in enumerate(COLOURS)
    )
)
_WIDTH, _RIGHT = 760.0, 24.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the range that chance leaves it."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one thing, (x, y) each."""

    name: str
    points: Sequence[tuple[float, float]]


def page(title: str, lead: str, parts: Iterable[str]) -> str:
    """The whole page.

    Args:
        title: heading.
        lead: one paragraph of text.
        parts: HTML, as the functions below make it.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
        " style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(lead)}</p>{''.join(parts)}</body></html>\n"
    )


def heading(text: str) -> str:
    """Of a section."""
    return f"<h2>{escape(text)}</h2>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells of text."""
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    names = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same table as a terminal shows it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def intervals(title: str, shown: Sequence[Interval], unit: str) -> str:
    """Figures one under the other, each with its range."""
    left, step = 230.0, 28.0
    height = step * len(shown) + 40
    values = [v for one in shown for v in (one.low, one.high, one.value, 0.0) if v == v]
    x = svg.Scale(min(values), max(values), left, _WIDTH - _RIGHT)
    parts = []
    for at in svg.ticks(x.low, x.high, 8):
        parts.append(svg.line(x(at), 6, x(at), height - 24, "grid"))
        parts.append(svg.label(f"{at:g}{unit}", x(at), height - 8, "", "middle"))
    for i, one in enumerate(shown):
        y = step * i + 20
        told = f"{one.name}: {one.value:.1f}{unit} [{one.low:.1f}, {one.high:.1f}]"
        parts.append(svg.label(one.name, left - 12, y + 4, "", "end"))
        if one.low == one.low:
            parts.append(svg.path([(x(one.low), y), (x(one.high), y)], "s0 line"))
        parts.append(svg.dot(x(one.value), y, 5, "s0 dot", told))
    return svg.drawing(parts, _WIDTH, height, title)


def curves(title: str, shown: Sequence[Curve], across: str, up: str) -> str:
    """Lines over a common x, from zero upwards."""
    left, height = 62.0, 260.0
    points = [*chain.from_iterable(one.points for one in shown)] or [(0.0, 0.0)]
    x = svg.Scale(0.0, max(p[0] for p in points), left, _WIDTH - _RIGHT)
    y = svg.Scale(min(0.0, *(p[1] for p in points)), max(p[1] for p in points), height - 44, 26)
    parts = []
    for at in svg.ticks(y.low, y.high, 5):
        parts.append(svg.line(left, y(at), _WIDTH - _RIGHT, y(at), "grid"))
        parts.append(svg.label(f"{at:g}", left - 6, y(at) + 4, "", "end"))
    for at in svg.ticks(x.low, x.high, 8):
        parts.append(svg.label(f"{at:g}", x(at), height - 26, "", "middle"))
    parts.append(svg.label(across, _WIDTH - _RIGHT, height - 8, "", "end"))
    parts.append(svg.label(up, left, 14))
    for i, one in enumerate(shown):
        style = f"s{i % len(COLOURS)}"
        parts.append(svg.path([(x(px), y(py)) for px, py in one.points], f"{style} line"))
        parts += (
            svg.dot(x(px), y(py), 3, f"{style} dot", f"{one.name}: {py:g}") for px, py in one.points
        )
    names = "".join(
        f'<li class="s{i % len(COLOURS)}">{escape(one.name)}</li>' for i, one in enumerate(shown)
    )
    return svg.drawing(parts, _WIDTH, height, title) + (f"<ul>{names}</ul>" if shown[1:] else "")
