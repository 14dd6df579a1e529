"""`textpro eval`: the measurements of `evaluate/`, each a subcommand with its own flags."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys

from textpro_stream.cli.options import add_settings
from textpro_stream.config import Settings

TAKES_SETTINGS = False  # each measure does, after its own name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand for each module of `evaluate/` that offers `add_arguments` and `run`."""
    import textpro_stream.evaluate as package

    actions = parser.add_subparsers(dest="measure", metavar="MEASURE", required=True)
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    wanted = [name for name in names if name in sys.argv] or names
    for name in wanted:  # the one that runs, or all of them for --help
        module = importlib.import_module(f"{package.__name__}.{name}")
        if hasattr(module, "add_arguments") and hasattr(module, "run"):
            summary = (module.__doc__ or "").partition("\n")[0]
            sub = actions.add_parser(
                name, help=summary, description=summary, conflict_handler="resolve"
            )
            add_settings(sub)
            module.add_arguments(sub)
            sub.set_defaults(measure_run=module.run)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run the chosen measurement; give the exit status."""
    status: int = args.measure_run(args, settings)
    return status
