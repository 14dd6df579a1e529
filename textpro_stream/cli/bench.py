"""`textpro bench`: the measurements of `bench/`, each a subcommand with its own flags."""

from __future__ import annotations

import argparse

import textpro_stream.bench as package
from textpro_stream.cli.modules import add_modules
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
    add_modules(parser, package, "MEASUREMENT", MEASUREMENTS)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run the chosen measurement; give the exit status."""
    status: int = args.module_run(args, settings)
    return status
