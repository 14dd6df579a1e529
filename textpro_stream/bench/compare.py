"""Two results of `textpro bench latency` side by side: what changed, and how sure that is.

textpro bench compare before.json after.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from textpro_stream.bench import results
from textpro_stream.bench.drive import Turn
from textpro_stream.bench.figures import (
    FEWEST,
    Comparison,
    difference_of_medians,
    quantile,
    ratio_of_medians,
)
from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError

RATIOS = ("user_perceived", "server_perceived", "true_endpoint_delay")
DIFFERENCES = ("asr_lag", "ttft_commit", "ttft_ready")  # may be negative: no ratio means anything


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro bench compare`."""
    parser.add_argument("before", metavar="A.json", type=Path)
    parser.add_argument("after", metavar="B.json", type=Path)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print the comparison; 0 whatever it says."""
    before, after = read_result(args.before), read_result(args.after)
    for line in compare(before, after):
        print(line)
    return 0


def read_result(path: Path) -> dict[str, Any]:
    """A result as `--json` wrote it.

    Raises:
        ConfigError: no such file, or it is something else.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; write one with --json") from None
    except ValueError:
        result = None
    if not isinstance(result, dict) or result.get("kind") != results.KIND:
        raise ConfigError(f"{path}: not a result of textpro bench latency --json")
    return result


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Lines for a person; B against A."""
    turns_a, turns_b = _turns(before), _turns(after)
    lines = [
        f"A: {_headline(before)}",
        f"B: {_headline(after)}",
        *_caveats(before["environment"], after["environment"]),
    ]
    for system in dict.fromkeys(turn.system for turn in (*turns_a, *turns_b)):
        for group in results.groups([*turns_a, *turns_b]):
            mine = [t for t in turns_a if (t.system, t.group) == (system, group)]
            other = [t for t in turns_b if (t.system, t.group) == (system, group)]
            if not mine or not other:
                lines.append(f"\n{system}, {group}: only in {'A' if mine else 'B'}")
                continue
            lines.append(f"\n{system}, {group}: cut off {_cut(mine)} in A, {_cut(other)} in B")
            for figure in RATIOS:
                a, b = results.values(mine, figure), results.values(other, figure)
                lines.append(_line(figure, a, b, ratio_of_medians(b, a), neutral=1.0))
            for figure in DIFFERENCES:
                a, b = results.values(mine, figure), results.values(other, figure)
                lines.append(_line(figure, a, b, difference_of_medians(b, a), neutral=0.0))
    return lines


def verdict(comparison: Comparison, neutral: float) -> str:
    """What an interval allows one to say."""
    if comparison.value is None:
        return "nothing to compare"
    if comparison.low is None or comparison.high is None:
        n = min(comparison.n_above, comparison.n_below)
        return f"too few turns to tell ({n}; {FEWEST} at least)"
    if comparison.low > neutral:
        return "slower"
    if comparison.high < neutral:
        return "faster"
    n = min(comparison.n_above, comparison.n_below)
    return f"no difference shown with {n} turns"


def _line(
    figure: str, a: list[float], b: list[float], comparison: Comparison, *, neutral: float
) -> str:
    medians = f"{_median(a)} -> {_median(b)}"
    if comparison.value is None:
        change = ""
    elif neutral:
        change = f"{comparison.value:.2f} times{_range(comparison, '{:.2f}', 1)}"
    else:
        change = f"{comparison.value * 1000:+.0f} ms{_range(comparison, '{:+.0f}', 1000)}"
    return f"  {figure:<20} {medians:<22} {change:<28} {verdict(comparison, neutral)}"


def _range(comparison: Comparison, form: str, scale: float) -> str:
    if comparison.low is None or comparison.high is None:
        return ""
    low, high = form.format(comparison.low * scale), form.format(comparison.high * scale)
    return f" [{low}, {high}]"


def _median(values: list[float]) -> str:
    return f"{quantile(values, 50) * 1000:.0f} ms" if values else "-"


def _turns(result: dict[str, Any]) -> list[Turn]:
    return [turn for turn in (Turn(**entry) for entry in result["turns"]) if turn.status == "ok"]


def _cut(turns: list[Turn]) -> str:
    return f"{sum(turn.false_endpoints > 0 for turn in turns)} of {len(turns)}"


def _headline(result: dict[str, Any]) -> str:
    told = result["environment"]
    models = ", ".join(str(name) for name in told["models"].values())
    return f"{told['date']}, version {told['version']}, {told['processor']}, {models}"


def _caveats(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What differs between the two besides what was to be compared."""
    names = ("processor", "cores", "models", "endpoint_ms", "labels")
    different = [name for name in names if a.get(name) != b.get(name)]
    return [f"different in A and B: {', '.join(different)}"] if different else []
