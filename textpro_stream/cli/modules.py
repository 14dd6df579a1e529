"""Subcommands that are the modules of a package: whoever adds a file adds a command."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

from textpro_stream.cli.options import add_settings


def add_modules(
    parser: argparse.ArgumentParser,
    package: ModuleType,
    metavar: str,
    names: Sequence[str] | None = None,
) -> None:
    """One subcommand for each module that offers `add_arguments` and `run`.

    Args:
        parser: of the command above them; the chosen module's `run` is `module_run` of its result.
        package: its modules are looked at by name.
        metavar: what they are called in the help.
        names: of the modules that count, in this order; None: all of the package's.
    """
    actions = parser.add_subparsers(dest="module", metavar=metavar, required=True)
    names = names or [module.name for module in pkgutil.iter_modules(package.__path__)]
    wanted = [name for name in names if name.replace("_", "-") in sys.argv] or names
    for name in wanted:  # the one that runs, or all of them for --help
        module = importlib.import_module(f"{package.__name__}.{name}")
        if hasattr(module, "add_arguments") and hasattr(module, "run"):
            summary, _, details = (module.__doc__ or "").partition("\n")
            sub = actions.add_parser(
                name.replace("_", "-"),
                help=summary,
                description=summary,
                epilog=details.strip("\n"),
                formatter_class=argparse.RawDescriptionHelpFormatter,
                conflict_handler="resolve",
            )
            add_settings(sub)
            module.add_arguments(sub)
            sub.set_defaults(module_run=module.run)
