"""Results as text for a terminal: what `textpro bench` prints above its JSON."""

from __future__ import annotations

from typing import Any

from textpro_stream.bench.drive import Turn
from textpro_stream.bench.figures import quantile

BUSY = 0.2  # cores that others keep busy, above which a warning stands below the figures
SHOWN = ("user_perceived", "server_perceived", "true_endpoint_delay", "ttft_commit", "ttft_ready")


def text(result: dict[str, Any]) -> str:
    """Medians of each group and system, the ratios, and the sessions."""
    names = "  ".join(f"{name:>19}" for name in SHOWN)
    lines = [f"{'question':>8}  {'system':<18} {'n':>4} {'cut off':>8} {'waste':>6}  {names}"]
    group_names = list(dict.fromkeys(g for of in result["systems"].values() for g in of))
    for group in group_names:
        for system, of in result["systems"].items():
            entry = of[group]
            medians = "  ".join(_pair(entry["figures"][name]) for name in SHOWN)
            waste = entry["waste_tokens"]
            price = f"{entry['cut_off']:>8} {'-' if waste is None else f'{waste:.1f}':>6}"
            lines.append(f"{group:>8}  {system:<18} {entry['answered']:>4} {price}  {medians}")
    lines.append(
        "p50 | p95; a p95 of fewer than 20 turns is close to the maximum; waste: tokens per turn"
    )
    for group, gains in result["gains"].items():
        for name, gain in gains.items():
            if gain["value"] is not None:
                lines.append(
                    f"{group:>8}  {name} takes {gain['value']:.2f} times as long to be heard"
                    f" ({interval(gain)})"
                )
    lines += [crowd(entry) for entry in result["sessions"]]
    others = [turn["load"]["others"] for turn in result["turns"] if "others" in turn["load"]]
    if others and quantile(others, 50) > BUSY:
        lines.append(
            f"the machine was busy with other things ({quantile(others, 50):.1f} cores): these"
            " times are longer than they need be; compare systems, or measure again"
        )
    return "\n".join(lines)


def one(turn: Turn) -> str:
    """One turn, for the progress line."""
    perceived = turn.figure("user_perceived")
    if turn.status != "ok" or perceived is None:
        return f"{turn.system} {turn.status}"
    cut = ", cut off" if turn.false_endpoints else ""
    return f"{turn.system} {perceived * 1000:.0f} ms{cut}"


def crowd(entry: dict[str, Any]) -> str:
    """One number of sessions."""
    perceived = entry["server_perceived"]
    verdict = "holds" if entry["holds"] else "does not hold"
    return (
        f"{entry['sessions']:>3} at once: server_perceived {_pair(perceived)},"
        f" n = {perceived['n']}, answered {entry['answered']} of {entry['turns']};"
        f" p95 within {entry['bound_s'] * 1000:.0f} ms {verdict}"
        f"{'; ' * bool(entry['failures'])}{', '.join(entry['failures'])}"
    )


def interval(comparison: dict[str, Any]) -> str:
    """How sure a comparison is, in words."""
    n = f"n = {comparison['n_above']} and {comparison['n_below']}"
    if comparison["low"] is None:
        return f"{n}: too few for an interval"
    return f"95 % interval {comparison['low']:.2f} to {comparison['high']:.2f}, {n}"


def _pair(figure: dict[str, Any]) -> str:
    if not figure["n"]:
        return f"{'-':>19}"
    return f"{figure['p50'] * 1000:>8.0f} | {figure['p95'] * 1000:>5.0f} ms"
