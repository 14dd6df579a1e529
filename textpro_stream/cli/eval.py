"""`textpro eval`: the measurements of `evaluate/`, each a subcommand with its own flags."""

from __future__ import annotations

import argparse

import textpro_stream.evaluate as package
from textpro_stream.cli.modules import add_modules
from textpro_stream.config import Settings

TAKES_SETTINGS = False  # each measure does, after its own name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand for each measure."""
    add_modules(parser, package, "MEASURE")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run the chosen measurement; give the exit status."""
    status: int = args.module_run(args, settings)
    return status
