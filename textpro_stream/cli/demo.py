"""`textpro demo`: a spoken question through the whole pipeline, at the pace it was spoken."""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from textpro_stream.config import Settings

EXAMPLES = """\
examples:
  textpro demo
  textpro demo --out /tmp/reply.wav --voice en-gb
  textpro demo --llm Qwen/Qwen2.5-0.5B-Instruct
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `demo`."""
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="where the spoken reply goes (demo-reply.wav beside the models; told at the end)",
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run it; give the exit status."""
    from textpro_stream.cli import runner
    from textpro_stream.store import cache_root

    out = args.out
    if out is None:  # nothing is left in the folder of whoever only looks
        out = cache_root() / "demo-reply.wav"
        with suppress(OSError):  # whoever writes there says what is wrong
            out.parent.mkdir(parents=True, exist_ok=True)
    turn = replace(settings.turn, barge_in=False, push_to_talk=False)  # nobody can interrupt
    with as_file(files("textpro_stream") / "assets" / "question.flac") as question:
        return runner.run(_demo(question, out, replace(settings, turn=turn)))


async def _demo(question: Path, out: Path, settings: Settings) -> int:
    from textpro_stream.audio.files import FileSource
    from textpro_stream.audio.pace import paced
    from textpro_stream.cli.choose import choose_report
    from textpro_stream.cli.follow import follow
    from textpro_stream.cli.notices import tell_what_is_off
    from textpro_stream.cli.outlet import ReplyWav
    from textpro_stream.cli.progress import Downloads
    from textpro_stream.clock import MonotonicClock
    from textpro_stream.pipeline import Engine

    async with AsyncExitStack() as stack:
        wav = stack.enter_context(ReplyWav(out))
        with Downloads() as progress:
            engine = await stack.enter_async_context(await Engine.load(settings, progress=progress))
        tell_what_is_off(engine)
        report = choose_report()
        stack.callback(report.close)
        async with engine.open() as talk:
            report.begin(question.name, talk)
            talk.feed(paced(FileSource(question).chunks(), MonotonicClock()))
            outcome = await follow(talk, report, wav)
    if wav.duration_s:
        print(f"spoken reply: {wav.path} ({wav.duration_s:.1f} s)")
    return 0 if outcome == "fine" else 1
