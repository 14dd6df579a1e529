"""`textpro replay`: tell a conversation again what a recording says it was told."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from textpro_stream.config import Settings

EXAMPLES = """\
examples:
  textpro stream --fast --record bug/ question.wav
  textpro replay bug/                             the same events again
  textpro replay --json bug/ | jq .type

A recording holds audio, commands and settings, no key and no model. Told to the same models, the
conversation says the same; a live one is told at the pace at which it came.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `replay`."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="of a recording")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--no-reply", action="store_true", help="stop after the transcript")
    parser.add_argument("--no-speech", action="store_true", help="reply in text only")
    parser.add_argument("--reply-wav", metavar="FILE", type=Path, help="write the spoken replies")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run it; give the exit status."""
    from textpro_stream.cli import runner

    return runner.run(_replay(args, settings))


async def _replay(args: argparse.Namespace, settings: Settings) -> int:
    from textpro_stream.cli.choose import choose_report
    from textpro_stream.cli.follow import follow
    from textpro_stream.cli.notices import tell_what_is_off
    from textpro_stream.cli.outlet import ReplyWav
    from textpro_stream.cli.progress import Downloads
    from textpro_stream.clock import MonotonicClock
    from textpro_stream.pipeline import Engine
    from textpro_stream.pipeline.recording import read_recording

    recording = read_recording(args.folder, settings)
    clock = MonotonicClock()
    async with AsyncExitStack() as stack:
        wav = stack.enter_context(ReplyWav(args.reply_wav))
        with Downloads() as progress:
            engine = await stack.enter_async_context(
                await Engine.load(
                    recording.settings,
                    replies=not args.no_reply,
                    speech=not args.no_speech,
                    progress=progress,
                )
            )
        tell_what_is_off(engine)
        report = choose_report(json=args.json)
        stack.callback(report.close)
        async with engine.open(live=recording.live, reserved=recording.turns) as talk:
            report.begin(str(args.folder), talk)
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(recording.tell(talk, clock), name="tell")
                outcome = await follow(talk, report, wav)
                telling.cancel()
    return 0 if outcome == "fine" else 1
