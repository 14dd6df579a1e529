"""`textpro models`: the weights in the cache."""

from __future__ import annotations

import argparse

from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError

TAKES_SETTINGS = False
EXAMPLES = """\
examples:
  textpro models list
  textpro models pull --defaults            what a plain run needs, about 170 MB to download
  textpro models pull small                 a larger recognizer: --asr small
  textpro models pull Qwen/Qwen2.5-0.5B-Instruct --revision main
  textpro models verify                     read every byte of what is there
  textpro models where tiny.en
  textpro models remove tiny.en
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `models`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="what is in the cache, and what a plain run needs")
    pull = actions.add_parser("pull", help="fetch models; repairs what is damaged")
    pull.add_argument("names", metavar="NAME", nargs="*")
    pull.add_argument("--defaults", action="store_true", help="all that a plain run needs")
    pull.add_argument("--revision", help="branch, tag or commit of a hub model")
    verify = actions.add_parser("verify", help="compare every byte with its checksum")
    verify.add_argument("names", metavar="NAME", nargs="*", help="without: all that are there")
    where = actions.add_parser("where", help="print a model's folder")
    where.add_argument("name", metavar="NAME")
    remove = actions.add_parser("remove", help="delete models from the cache")
    remove.add_argument("names", metavar="NAME", nargs="+")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run it; give the exit status."""
    from textpro_stream import store

    match args.action:
        case "list":
            _list()
        case "pull":
            return _pull(args)
        case "verify":
            return _verify(args.names)
        case "where":
            print(store.where(args.name))
        case "remove":
            for name in args.names:
                store.remove(name)
                print(f"{name}: removed")
    return 0


def _list() -> None:
    from textpro_stream import store

    entries = store.entries()
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        state = "here" if entry.present else "not here"
        size = f"{entry.size / 1e6:6.0f} MB"
        print(
            f"{entry.name:<{width}}  {entry.kind:<7}  {size}  {state:<8}"
            f"  {entry.licence:<10}  {entry.source}"
        )
    print(f"\ncache: {store.cache_root()} (TEXTPRO_CACHE moves it)")
    print(f"names for pull: {', '.join(store.known_names())}, or org/name of the hub")


def _pull(args: argparse.Namespace) -> int:
    from textpro_stream import store
    from textpro_stream.cli.progress import Downloads

    names = [*(store.defaults() if args.defaults else ()), *args.names]
    if not names:
        raise ConfigError("models pull: name a model, or give --defaults")
    with Downloads() as progress:
        for name in names:
            folder = store.pull(name, progress=progress, revision=args.revision)
            print(f"{name}: {folder}")
    return 0


def _verify(names: list[str]) -> int:
    from textpro_stream import store

    damaged = False
    for name in names or [entry.name for entry in store.entries() if entry.present]:
        problems = store.verify(name)
        for problem in problems:
            print(f"{name}: {problem}")
        print(f"{name}: {'damaged; repair: textpro models pull ' + name if problems else 'whole'}")
        damaged |= bool(problems)
    return 1 if damaged else 0
