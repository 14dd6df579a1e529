"""What tone changes in answers, as tables and as a page that stands alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from textpro_stream.evaluate import svg
from textpro_stream.evaluate.tone_figures import COLUMNS, Estimate, Figure

Parts = Mapping[str, Sequence[Figure]]  # by the name of a part of the manifest

_WIDTH, _LEFT, _LINE = 720.0, 320.0, 15.0
_COLOURS = ("#1b8f88", "#c96f2c", "#8a8f98")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:40px auto;padding:0 20px;"
    "color:#20242a;background:#fff}svg text{font-size:12px;fill:#555}.grid{stroke:#e3e5e8}"
    "table{border-collapse:collapse}td,th{padding:2px 12px 2px 0;text-align:left}"
    + "".join(
        f".s{i}.bar{{fill:{c}}}.s{i}.reach{{stroke:{c};stroke-width:2}}li.s{i}{{color:{c}}}"
        for i, c in enumerate(_COLOURS)
    )
)


def table(parts: Parts) -> str:
    """All of it as markdown."""
    blocks = []
    for part, figures in parts.items():
        lines = [f"{part}", "", "| | clips | " + " | ".join(COLUMNS) + " |", "|---" * 5 + "|"]
        lines += [
            f"| {figure.name} | {figure.columns[0].n} | " + " | ".join(map(str, figure.columns))
            + " |"
            for figure in figures
        ]  # fmt: skip
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def draw_page(parts: Parts, about: str) -> str:
    """A page: for each part its shares as bars with their intervals, and the table.

    Args:
        parts: what was measured.
        about: with what, in a sentence.
    """
    names = "".join(f'<li class="s{i}">{escape(name)}</li>' for i, name in enumerate(COLUMNS))
    body = "".join(
        f"<h2>{escape(part)}</h2>{_bars(part, figures)}{_table(figures)}"
        for part, figures in parts.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
        " style-src 'unsafe-inline'\">"
        f"<title>Does the answer hear the tone?</title><style>{_STYLE}</style></head><body>"
        f"<h1>Does the answer hear the tone?</h1><p>{escape(about)}</p><ul>{names}</ul>"
        f"{body}</body></html>\n"
    )


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


def _table(figures: Sequence[Figure]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", "clips", *COLUMNS))
    rows = "".join(
        f"<tr><td>{escape(figure.name)}</td><td>{figure.columns[0].n}</td>"
        + "".join(f"<td>{escape(str(one))}</td>" for one in figure.columns)
        + "</tr>"
        for figure in figures
    )
    return f"<table><tr>{head}</tr>{rows}</table>"
