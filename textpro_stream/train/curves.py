"""Learning curves as a picture. Pure: lines of a log in, SVG out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textpro_stream.evaluate import svg

WIDTH, ROW, LEFT = 640.0, 120.0, 70.0
STYLE = (
    "<style>text{font:11px sans-serif;fill:#555}.grid{stroke:#ddd}.line{fill:none;"
    "stroke:#1668b8;stroke-width:1.5}.name{font-weight:bold;fill:#222}</style>"
)


def draw_curves(lines: Sequence[Mapping[str, float]]) -> str:
    """One small plot a figure, over the steps.

    Args:
        lines: of a log, each with `step` and some figures.
    """
    names = list(dict.fromkeys(name for line in lines for name in line if name != "step"))
    last = max(1.0, *(float(line["step"]) for line in lines))
    x = svg.Scale(0.0, last, LEFT, WIDTH - 12.0)
    parts = [STYLE]
    for row, name in enumerate(names):
        found = [(float(line["step"]), line[name]) for line in lines if name in line]
        low, high = min(v for _, v in found), max(v for _, v in found)
        top = row * ROW
        y = svg.Scale(low, high if high > low else low + 1.0, top + ROW - 24.0, top + 24.0)
        parts.append(svg.label(f"{name}: {found[-1][1]:.4g}", LEFT, top + 14, "name"))
        for tick in svg.ticks(low, high, 3):
            parts.append(svg.line(LEFT, y(tick), WIDTH - 12, y(tick), "grid"))
            parts.append(svg.label(f"{tick:g}", LEFT - 6, y(tick) + 4, "", "end"))
        parts.append(svg.path([(x(step), y(value)) for step, value in found], "line"))
        parts += [
            svg.label(f"{t:g}", x(t), top + ROW - 8, "", "middle") for t in svg.ticks(0.0, last, 6)
        ]
    return svg.drawing(parts, WIDTH, ROW * max(1, len(names)), "learning curves")
