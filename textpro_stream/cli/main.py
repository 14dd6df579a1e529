"""`textpro`: parse, dispatch, and leave with a status. No traceback ever reaches a user.

Modules of subcommands are imported when theirs is the one that runs, so that `--help` answers at
once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import textpro_stream
from textpro_stream.cli.notices import tell
from textpro_stream.cli.options import add_settings, settings_of
from textpro_stream.cli.signals import Terminated
from textpro_stream.cli.streams import is_full, mend_streams
from textpro_stream.errors import ConfigError, TextproError, nearest, unwrap
from textpro_stream.runtime.prepare import prepare

OK, FAILED, USAGE = 0, 1, 2
INTERRUPTED, BROKEN_PIPE, TERMINATED = 130, 141, 143  # 128 + the signal, as shells report it

COMMANDS = {  # name: one line for --help
    "demo": "play a spoken question through the whole pipeline and show it live",
    "talk": "talk to the assistant through microphone and loudspeaker",
    "serve": "talk to it from a browser, a script or the OpenAI SDK, over WebSocket",
    "stream": "transcribe and answer sound files, or raw audio from a pipe",
    "replay": "tell a conversation again what stream --record wrote down, for bug reports",
    "models": "list, fetch, check, find and remove models",
    "doctor": "what this machine has, what will be used, what is missing",
    "bench": "measure how long a listener waits, how many can talk at once, and compare results",
    "eval": "measure accuracy, endpoints and latency on your own recordings",
    "train": "train the small parts that ship, on your own recordings",
}

EXAMPLES = """\
examples:
  textpro demo                              see it work, without a microphone
  textpro talk                              talk to it; --push-to-talk if it hears itself
  textpro serve                             a page to talk to it, and WebSockets for programs
  textpro stream question.wav               words, tone of voice, and a reply, at real-time pace
  textpro stream --fast --no-reply *.flac   just transcripts, as fast as the machine can
  textpro stream --json a.wav | jq .text    one JSON object a line, for programs
  arecord -f S16_LE -r 16000 -t raw | textpro stream - --rate 16000
  textpro models pull --defaults            fetch the default models now, then work offline

`textpro COMMAND --help` explains a command. Options are read from ./textpro.toml or
~/.config/textpro-stream/textpro.toml, TEXTPRO_SECTION__KEY variables and flags; the later win.
`textpro --config-dump` prints them all.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `textpro`; give the exit status."""
    prepare()
    mend_streams()
    with suppress(ValueError):  # not in the main thread: whoever runs us there handles signals
        signal.signal(signal.SIGTERM, _terminate)
    try:
        try:
            status = _run(list(sys.argv[1:] if arguments is None else arguments))
        except SystemExit as leaving:  # argparse has said why
            status = leaving.code if isinstance(leaving.code, int) else USAGE
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        _close_pipe()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return _leave_now(INTERRUPTED)
    except Terminated:
        return _leave_now(TERMINATED)
    except Exception as raised:
        error = unwrap(raised)
        if isinstance(error, TextproError):
            tell(str(error))
            return USAGE
        if is_full(error):
            tell(f"writing stopped: {error}; make room on the disk")
            _close_pipe()
            return FAILED
        if os.environ.get("TEXTPRO_DEBUG"):
            raise
        what = " ".join(str(error).split()) or "no message"
        tell(f"unexpected {type(error).__name__}: {what} (TEXTPRO_DEBUG=1 shows where)")
        return FAILED


def _run(arguments: list[str]) -> int:
    try:
        os.getcwd()
    except OSError:
        raise ConfigError(
            "the folder that this was started in is gone; cd to one that exists"
        ) from None
    command = next((a for a in arguments if not a.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        raise ConfigError(f"unknown command {command!r}; {nearest(command, COMMANDS)}")
    parser, sub = _parser(command)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = re.findall(r"--[a-z][a-z-]+", (sub or parser).format_help())
        raise ConfigError(f"{unknown[0]}: not known here; {nearest(unknown[0], known)}")
    if args.config_dump:
        from textpro_stream.cli.settings import dump_settings

        print(dump_settings(settings_of(args)))
        return OK
    if not args.command:
        parser.print_help()
        return OK
    settings = settings_of(args)
    from textpro_stream.cli.quiet import quieten

    quieten()
    status: int = _module(args.command).run(args, settings)
    return status


class _Parser(argparse.ArgumentParser):
    """One that complains in one line, like everything else here."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parser(command: str | None) -> tuple[_Parser, _Parser | None]:
    """The parser, and that of one subcommand; the others stay without details."""
    parser = _Parser(
        prog="textpro",
        description="Talk to an assistant that hears words and tone of voice while you speak.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=textpro_stream.__version__)
    parser.add_argument(
        "--config-dump", action="store_true", help="print all options in force as TOML, and end"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    chosen = None
    for name, summary in COMMANDS.items():
        sub = subparsers.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            conflict_handler="resolve",
            allow_abbrev=False,
        )
        if name == command:
            chosen, module = sub, _module(name)
            sub.epilog = getattr(module, "EXAMPLES", None)
            if getattr(module, "TAKES_SETTINGS", True):
                add_settings(sub)
            module.add_arguments(sub)
    return parser, chosen


def _module(command: str) -> Any:
    return importlib.import_module(f"textpro_stream.cli.{command}")


def _terminate(number: int, frame: object) -> NoReturn:
    raise Terminated


def _close_pipe() -> None:
    """Our output goes nowhere any more; Python shall not complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave_now(status: int) -> int:
    """End the process now: a model being loaded in a thread would hold up an ordinary end."""
    sys.stderr.flush()
    try:
        sys.stdout.flush()
    finally:
        os._exit(status)
