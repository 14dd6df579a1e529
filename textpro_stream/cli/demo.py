"""`textpro demo`: a spoken question, and the same words in two tones, at the pace they were spoken.

Each clip is a conversation of its own, so nothing but the tone makes the last two answers differ.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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


QUESTION = (("a question", "question.flac"),)
# One voice, once as it is, once faster, higher and with more melody (tests/data/make_clips.sh).
TWO_TONES = (
    ("the same words, in an even voice", "even.flac"),
    ("and in an agitated one", "agitated.flac"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `demo`."""
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="where the spoken replies go (demo-reply.wav beside the models; told at the end)",
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
    hears = settings.prosody.tone and settings.llm.fusion != "text"
    clips = (*QUESTION, *(TWO_TONES if hears else ()))
    with as_file(files("textpro_stream") / "assets") as folder:
        named = [(name, folder / file) for name, file in clips]
        return runner.run(_demo(named, out, replace(settings, turn=turn)))


async def _demo(clips: Sequence[tuple[str, Path]], out: Path, settings: Settings) -> int:
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
        outcomes = set()
        for name, path in clips:
            async with engine.open() as talk:
                report.begin(name, talk)
                talk.feed(paced(FileSource(path).chunks(), MonotonicClock()))
                outcomes.add(await follow(talk, report, wav))
    if wav.duration_s:
        print(f"spoken replies: {wav.path} ({wav.duration_s:.1f} s)")
    return 0 if outcomes == {"fine"} else 1
