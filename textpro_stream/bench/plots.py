"""The drawings of a report: what the figures look like. Pure: a result in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textpro_stream.bench import results
from textpro_stream.bench.drive import Turn
from textpro_stream.bench.figures import quantile
from textpro_stream.bench.serve import OURS
from textpro_stream.evaluate import svg
from textpro_stream.telemetry.waterfall import stages

WIDTH = 720.0
LEFT = 62.0  # of the plot; before it stand labels like -500 ms


def class_of(system: str, systems: Sequence[str]) -> str:
    """The style of a system: ours first, the others by their order."""
    others = [name for name in systems if name != OURS]
    return "s0" if system == OURS else f"s{1 + others.index(system)}"


def flatness(turns: Sequence[Turn], figure: str, title: str) -> str:
    """A figure against question length: each turn a dot, medians as a line, p95 as a shade."""
    systems = list(dict.fromkeys(turn.system for turn in turns))
    points = [
        (turn, value)
        for turn in turns
        if not turn.false_endpoints and (value := turn.figure(figure)) is not None
    ]
    if not points:
        return ""
    height = 300.0
    longest = max(turn.speech_s for turn, _ in points)
    low = min(0.0, *(value for _, value in points))
    high = max(0.0, *(value for _, value in points))
    x = svg.Scale(0.0, longest * 1.04, LEFT, WIDTH - 12.0)
    y = svg.Scale(low, high * 1.06, height - 42.0, 12.0)
    parts = _grid_y(y, WIDTH)
    for tick in svg.ticks(0.0, longest, 6):
        parts.append(svg.label(f"{tick:g}", x(tick), height - 21, "tick", "middle"))
    parts.append(svg.label("length of the question, s", WIDTH - 12, height - 4, "axis", "end"))
    for system in systems:
        style = class_of(system, systems)
        mine = [(turn, value) for turn, value in points if turn.system == system]
        middle, upper = [], []
        for group in results.groups([turn for turn, _ in mine]):
            there = [(turn, value) for turn, value in mine if turn.group == group]
            at = x(quantile([turn.speech_s for turn, _ in there], 50))
            found = [value for _, value in there]
            middle.append((at, y(quantile(found, 50))))
            upper.append((at, y(quantile(found, 95))))
        parts.append(svg.area(upper, middle, f"{style} shade"))
        parts += [
            svg.dot(x(t.speech_s), y(v), 2.2, f"{style} speck", f"{system} {t.question}: {_ms(v)}")
            for t, v in mine
        ]
        parts.append(svg.path(middle, f"{style} line"))
        parts += [svg.dot(px, py, 4, f"{style} knot") for px, py in middle]
    return svg.drawing(parts, WIDTH, height, title)


def waterfall(turns: Sequence[Turn], title: str) -> str:
    """The median turn of each system: what was done when, from the true end of speech on."""
    systems = list(dict.fromkeys(turn.system for turn in turns))
    rows: list[tuple[str, str, float, float, str]] = []
    for system in systems:
        turn = median_turn([t for t in turns if t.system == system])
        if turn is None or "speech_end" not in turn.marks:
            continue
        # Marks are against the endpoint decision; the label says when speech really ended.
        truth = turn.marks["speech_end"] - turn.client.get("speech_end_error", 0.0)
        drawn = [(n, a - truth, b - truth) for n, a, b in stages(turn.marks)]
        style = class_of(system, systems)
        for number, (name, start, end) in enumerate(drawn):
            rows.append((system if number == 0 else "", name, start, end, style))
        heard = turn.client["user_perceived"]
        rows.append(("", "heard", heard, heard, style))
    if not rows:
        return ""
    step, top = 17.0, 26.0
    n_gaps = sum(bool(row[0]) for row in rows)
    height = top + step * len(rows) + 12.0 * n_gaps + 6.0
    low, high = min(-0.2, *(row[2] for row in rows)), max(row[3] for row in rows)
    x = svg.Scale(low, high * 1.12, 218.0, WIDTH - 12.0)
    parts = [
        svg.line(x(tick), top - 8, x(tick), height, "zero" if tick == 0 else "grid")
        for tick in svg.ticks(low, high * 1.12, 7)
    ]
    parts += [
        svg.label("end of speech" if tick == 0 else _ms(tick), x(tick), 12, "tick", "middle")
        for tick in svg.ticks(low, high * 1.12, 7)
    ]
    y = top
    for system, name, start, end, style in rows:
        if system:
            y += 12.0
            parts.append(svg.label(system, 0, y + 11, f"{style} name"))
        parts.append(svg.label(name, 208, y + 11, "tick", "end"))
        if name == "heard":
            parts.append(svg.dot(x(start), y + 7, 4.5, f"{style} knot", _ms(start)))
            parts.append(svg.label(_ms(start), x(start) + 9, y + 11, "value"))
        else:
            width = max(1.5, x(end) - x(start))
            told = f"{name}: {_ms(start)} to {_ms(end)}"
            parts.append(svg.bar(x(start), y + 2, width, 10, f"{style} fill", told))
        y += step
    return svg.drawing(parts, WIDTH, height, title)


def strips(turns: Sequence[Turn], figure: str, title: str) -> str:
    """Every turn as a dot, one strip for each length and system; the median as a bar."""
    systems = list(dict.fromkeys(turn.system for turn in turns))
    rows = [
        (group, system, found)
        for group in results.groups(turns)
        for system in systems
        if (
            found := results.values(
                [t for t in turns if (t.group, t.system) == (group, system)], figure
            )
        )
    ]
    if not rows:
        return ""
    step, top = 18.0, 22.0
    group_names = list(dict.fromkeys(group for group, _, _ in rows))
    height = top + step * len(rows) + 10.0 * len(group_names)
    high = max(max(found) for _, _, found in rows)
    low = min(0.0, *(min(found) for _, _, found in rows))
    x = svg.Scale(low, high * 1.04, 208.0, WIDTH - 12.0)
    parts = [svg.line(x(t), 16, x(t), height, "grid") for t in svg.ticks(low, high, 7)]
    parts += [svg.label(_ms(t), x(t), 11, "tick", "middle") for t in svg.ticks(low, high, 7)]
    y, last = top, ""
    for group, system, found in rows:
        if group != last:
            y += 10.0 if last else 4.0
            parts.append(svg.label(group, 0, y + 10, "name"))
            last = group
        style = class_of(system, systems)
        parts.append(svg.label(system, 198, y + 10, f"{style} tick", "end"))
        parts += [svg.dot(x(value), y + 6, 3, f"{style} speck", _ms(value)) for value in found]
        middle = x(quantile(found, 50))
        parts.append(svg.line(middle, y - 2, middle, y + 14, f"{style} mark"))
        y += step
    return svg.drawing(parts, WIDTH, height + 4, title)


def crowd(entries: Sequence[dict[str, Any]], title: str) -> str:
    """p50 and p95 of server_perceived against the number of sessions, and the bound."""
    known = [entry for entry in entries if entry["server_perceived"]["n"]]
    if not known:
        return ""
    height = 260.0
    bound = known[0]["bound_s"]
    high = max(bound, *(entry["server_perceived"]["p95"] for entry in known))
    most = max(entry["sessions"] for entry in known)
    x = svg.Scale(0.0, most * 1.06, LEFT, WIDTH - 12.0)
    y = svg.Scale(0.0, high * 1.1, height - 42.0, 12.0)
    parts = _grid_y(y, WIDTH)
    parts += [
        svg.label(str(e["sessions"]), x(e["sessions"]), height - 21, "tick", "middle")
        for e in known
    ]
    parts.append(svg.label("sessions at once", WIDTH - 12, height - 4, "axis", "end"))
    parts.append(svg.line(LEFT, y(bound), WIDTH - 12, y(bound), "bound"))
    parts.append(svg.label(f"bound {_ms(bound)}", LEFT + 6, y(bound) - 5, "tick"))
    for name, style in (("p50", "s0 line thin"), ("p95", "s0 line")):
        drawn = [(x(e["sessions"]), y(e["server_perceived"][name])) for e in known]
        parts.append(svg.path(drawn, style))
        for entry, (px, py) in zip(known, drawn, strict=True):
            value = entry["server_perceived"][name]
            parts.append(svg.dot(px, py, 4, "s0 knot", f"{name} {_ms(value)}"))
        parts.append(svg.label(name, drawn[-1][0] + 7, drawn[-1][1] + 4, "value"))
    return svg.drawing(parts, WIDTH, height, title)


def median_turn(turns: Sequence[Turn]) -> Turn | None:
    """The one in the middle by user_perceived."""
    heard = sorted(
        (turn for turn in turns if "user_perceived" in turn.client and not turn.false_endpoints),
        key=lambda turn: turn.client["user_perceived"],
    )
    return heard[(len(heard) - 1) // 2] if heard else None


def _grid_y(y: svg.Scale, width: float) -> list[str]:
    parts = []
    for tick in svg.ticks(y.low, y.high):
        parts.append(svg.line(LEFT, y(tick), width - 12, y(tick), "zero" if tick == 0 else "grid"))
        parts.append(svg.label(_ms(tick), LEFT - 6, y(tick) + 4, "tick", "end"))
    return parts


def _ms(value: float) -> str:
    """Seconds as a person reads them."""
    if value and value % 0.5 == 0:
        return f"{value:g} s"
    return f"{value * 1000:.1f} ms" if 0 < abs(value) < 0.01 else f"{value * 1000:.0f} ms"
