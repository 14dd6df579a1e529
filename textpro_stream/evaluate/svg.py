"""Just enough SVG for plots: scales, ticks and escaped elements. Pure.

Colours are CSS classes, so that a page's light and dark styles hold for its plots as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight line from values to pixels."""

    low: float
    high: float
    first: float  # pixel of `low`
    last: float  # pixel of `high`

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        span = self.high - self.low or 1.0
        return self.first + (value - self.low) / span * (self.last - self.first)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values within a range: multiples of 1, 2 or 5 times a power of ten."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(
        (power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= about), power * 10
    )
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(n * step, 10) for n in range(first, last + 1)]


def element(name: str, content: str = "", **attributes: object) -> str:
    """One element. `content` is markup; attribute names may carry `_` for `-`."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{told}>{content}</{name}>" if content else f"<{name}{told}/>"


def label(text: str, x: float, y: float, class_: str = "", anchor: str = "start") -> str:
    """Text at a place."""
    return element("text", escape(text), x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Iterable[tuple[float, float]], class_: str) -> str:
    """Straight lines from point to point."""
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", points=drawn, class_=class_)


def area(
    upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]], class_: str
) -> str:
    """What lies between two lines."""
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*upper, *reversed(lower)))
    return element("polygon", points=drawn, class_=class_)


def dot(x: float, y: float, radius: float, class_: str, title: str = "") -> str:
    """A filled circle, told more about under the pointer."""
    content = element("title", escape(title)) if title else ""
    return element("circle", content, cx=x, cy=y, r=radius, class_=class_)


def bar(x: float, y: float, width: float, height: float, class_: str, title: str = "") -> str:
    """A filled rectangle, told more about under the pointer."""
    content = element("title", escape(title)) if title else ""
    return element(
        "rect", content, x=x, y=y, width=max(width, 0.0), height=height, rx=2, class_=class_
    )


def drawing(parts: Iterable[str], width: float, height: float, title: str) -> str:
    """A whole drawing, which scales with its place."""
    return element(
        "svg",
        element("title", escape(title)) + "".join(parts),
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=title,
    )


def _plain(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
