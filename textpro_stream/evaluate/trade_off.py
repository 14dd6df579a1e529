"""Cut-offs against waiting as a page that stands alone. Pure: curves in, HTML out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from textpro_stream.evaluate import svg
from textpro_stream.evaluate.page import COLOURS, page
from textpro_stream.evaluate.policies import Cost

_WIDTH, _HEIGHT, _LEFT = 720.0, 420.0, 62.0
_LONGEST_S = 2.0  # nobody wants to wait longer


def draw_page(curves: Sequence[tuple[str, Sequence[Cost], Cost | None]]) -> str:
    """A page with one drawing.

    Args:
        curves: of each judge its name, its best policies, and the one it uses by default.
    """
    x = svg.Scale(0.0, _LONGEST_S, _LEFT, _WIDTH - 12.0)
    y = svg.Scale(0.0, 100.0, _HEIGHT - 42.0, 12.0)
    parts = []
    for percent in range(0, 101, 20):
        parts.append(svg.line(_LEFT, y(percent), _WIDTH - 12, y(percent), "grid"))
        parts.append(svg.label(f"{percent} %", _LEFT - 6, y(percent) + 4, "", "end"))
    for wait_s in svg.ticks(0.0, _LONGEST_S, 8):
        parts.append(svg.label(f"{wait_s:g} s", x(wait_s), _HEIGHT - 22, "", "middle"))
    parts.append(svg.label("mean wait at an end", _WIDTH - 12, _HEIGHT - 4, "", "end"))
    parts.append(svg.label("turns cut off, of pauses that were none", _LEFT + 8, 24))
    names = []
    for i, (name, curve, default) in enumerate(curves):
        style = f"s{i % len(COLOURS)}"
        points = [(x(c.wait_s), y(100 * c.cut)) for c in curve if c.wait_s <= _LONGEST_S]
        parts.append(svg.path(points, f"{style} line"))
        if default is not None:
            told = f"{name}: {100 * default.cut:.1f} % at {1000 * default.wait_s:.0f} ms"
            parts.append(svg.dot(x(default.wait_s), y(100 * default.cut), 5, f"{style} dot", told))
            name = told
        names.append(f'<li class="{style}">{escape(name)}</li>')
    drawing = svg.drawing(parts, _WIDTH, _HEIGHT, "turns cut off against mean wait")
    lead = (
        "Each line: the best that a judge can do at any setting. Dots: the setting that is used by"
        " default."
    )
    return page("Is it over?", lead, [drawing, f"<ul>{''.join(names)}</ul>"])
