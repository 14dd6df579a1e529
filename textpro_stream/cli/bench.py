"""`textpro bench`: the measurements of `bench/`, each a subcommand with its own flags."""

from __future__ import annotations

import argparse
import importlib
import sys

from textpro_stream.cli.options import add_settings
from textpro_stream.config import Settings

TAKES_SETTINGS = False  # each measurement does, after its own name
MEASUREMENTS = ("latency", "baseline", "compare", "soak", "prefill")

EXAMPLES = """\
examples:
  textpro bench latency                                how long a listener waits, by question length
  textpro bench latency --baselines --each 20 --report out.html --json out.json
  textpro bench latency --each 20 --lengths 5 --sessions 1,2,3,4,6,8
  textpro bench compare before.json after.json
  textpro bench prefill --llm http://localhost:8080/v1 what reading along saves with an LLM by URL
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand for each measurement, from the module of that name."""
    actions = parser.add_subparsers(dest="measure", metavar="MEASUREMENT", required=True)
    wanted = [name for name in MEASUREMENTS if name in sys.argv] or MEASUREMENTS
    for name in wanted:  # the one that runs, or all of them for --help
        module = importlib.import_module(f"textpro_stream.bench.{name}")
        summary, _, details = (module.__doc__ or "").partition("\n")
        sub = actions.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=details.strip("\n"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            conflict_handler="resolve",
        )
        add_settings(sub)
        module.add_arguments(sub)
        sub.set_defaults(measure_run=module.run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run the chosen measurement; give the exit status."""
    status: int = args.measure_run(args, settings)
    return status
