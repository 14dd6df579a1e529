"""`textpro stream`: sound files or a raw pipe through the pipeline, as text, JSON or live view."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textpro_stream.config import Settings
from textpro_stream.errors import AudioFormatError, ConfigError

if TYPE_CHECKING:
    from textpro_stream.audio.level import LevelMeter
    from textpro_stream.cli.follow import Outcome
    from textpro_stream.contracts import AudioChunk
    from textpro_stream.ports import Report
    from textpro_stream.telemetry.trace import Trace

EXAMPLES = """\
examples:
  textpro stream question.wav                     at real-time pace, with a reply
  textpro stream --fast --no-reply talks/*.mp3    transcripts only
  textpro stream --json --reply-wav out.wav q.flac
  ffmpeg -i in.mp4 -f wav - | textpro stream -    a pipe may say what it holds, or be raw:
  ffmpeg -i in.mp4 -f s16le -ac 1 -ar 48000 - | textpro stream - --rate 48000
  textpro stream --record bug/ question.wav       for a bug report: textpro replay bug/
  textpro stream --fast --trace t.json q.wav      open t.json at https://ui.perfetto.dev

exit status: 0 all fine, 1 some source failed, 2 nothing usable was given
"""

NO_WORK = dict.fromkeys(
    ("frames_final_per_frame", "frames_provisional_per_frame", "decoder_steps_per_token"), 0.0
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `stream`."""
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        help="WAV, FLAC, OGG or MP3 of any rate and channels; - is a pipe of one, or of raw PCM16"
        " mono",
    )
    parser.add_argument(
        "--rate", metavar="HZ", type=int, default=16_000, help="of raw audio in the pipe"
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="as fast as the machine can; at each endpoint the audio waits for the reply",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--no-reply", action="store_true", help="stop after the transcript")
    parser.add_argument("--no-speech", action="store_true", help="reply in text only")
    parser.add_argument("--reply-wav", metavar="FILE", type=Path, help="write the spoken replies")
    parser.add_argument("--trace", metavar="FILE", type=Path, help="write a Chrome trace")
    parser.add_argument(
        "--record", metavar="DIR", type=Path, help="write down what is told; see textpro replay"
    )
    parser.add_argument("--vectors", action="store_true", help="embeddings in prosody.window")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run it; give the exit status."""
    from textpro_stream.cli import runner

    if not args.files:
        raise ConfigError("stream: name a sound file, or - for a pipe; see textpro stream --help")
    if "-" in args.files and getattr(sys.stdin, "name", "") == os.devnull:
        raise ConfigError("stream -: standard input is closed; pipe a WAV or raw PCM16 into it")
    if "-" in args.files and sys.stdin.isatty():
        raise ConfigError("stream -: standard input is a terminal; pipe a WAV or raw PCM16 into it")
    turn = replace(settings.turn, barge_in=False, push_to_talk=False)  # a file has no listener
    if args.record is not None and len(args.files) != 1:
        raise ConfigError("stream --record: a recording holds one source; name one file")
    return runner.run(_stream(args, replace(settings, turn=turn)))


async def _stream(args: argparse.Namespace, settings: Settings) -> int:
    from textpro_stream.audio.level import LevelMeter
    from textpro_stream.audio.pace import metered
    from textpro_stream.cli.choose import choose_report
    from textpro_stream.cli.follow import follow
    from textpro_stream.cli.notices import tell_what_is_off
    from textpro_stream.cli.outlet import ReplyWav
    from textpro_stream.cli.progress import Downloads
    from textpro_stream.clock import MonotonicClock
    from textpro_stream.contracts import SAMPLE_RATE
    from textpro_stream.pipeline.recording import Recorder

    problems = dict(_problems(args.files))  # found before any model is loaded
    outcomes: list[Outcome] = []
    traces: list[tuple[str, Trace]] = []
    async with AsyncExitStack() as stack:
        wav = stack.enter_context(ReplyWav(args.reply_wav))
        engine = None
        if any(name not in problems for name in args.files):
            from textpro_stream.pipeline import Engine

            with Downloads() as progress:
                engine = await stack.enter_async_context(
                    await Engine.load(
                        settings,
                        replies=not args.no_reply,
                        speech=not args.no_speech,
                        progress=progress,
                    )
                )
            tell_what_is_off(engine)
        report = choose_report(json=args.json, vectors=args.vectors)
        stack.callback(report.close)
        for name in args.files:
            if engine is None or name in problems:
                outcomes.append(_refuse(name, problems[name], report))
                continue
            live = not args.fast
            recorder = None
            if args.record is not None:
                recorder = stack.enter_context(
                    Recorder(args.record, settings, live=live, clock=MonotonicClock())
                )
            traced = args.trace is not None
            async with engine.open(live=live, trace_spans=traced, recorder=recorder) as talk:
                report.begin(name, talk)
                level = LevelMeter(SAMPLE_RATE)
                talk.feed(metered(_audio(name, rate_hz=args.rate, live=live), level))
                outcomes.append(await follow(talk, report, wav, partial(_hint, name, level)))
                traces.append((name, talk.trace))
        if args.trace is not None:
            _write_trace(args.trace, traces)
    if "fine" not in outcomes and "failed" not in outcomes:
        return 2
    return 0 if set(outcomes) == {"fine"} else 1


def _problems(names: list[str]) -> Iterator[tuple[str, AudioFormatError]]:
    from textpro_stream.audio.files import FileSource

    for name in names:
        try:
            if name != "-":
                FileSource(name).close()
        except AudioFormatError as error:
            yield name, error


def _audio(name: str, *, rate_hz: int, live: bool) -> AsyncIterator[AudioChunk]:
    from textpro_stream.audio.files import FileSource
    from textpro_stream.audio.pace import fast, paced
    from textpro_stream.audio.pipe import read_pipe
    from textpro_stream.clock import MonotonicClock

    if name == "-":
        return read_pipe(sys.stdin.fileno(), rate_hz)
    chunks = FileSource(name).chunks()
    return paced(chunks, MonotonicClock()) if live else fast(chunks)


def _hint(name: str, level: LevelMeter, turns: int) -> str | None:
    """What to say where words may have been lost, or none were found; None: nothing."""
    from textpro_stream.audio.level import QUIET_DBFS, SILENCE_DBFS

    loudest = level.loudest_dbfs
    if loudest < SILENCE_DBFS:
        return f"{name}: nothing but silence in it; check the microphone or what was recorded"
    if loudest < QUIET_DBFS:
        return (
            f"{name}: there is sound, but it is very quiet ({loudest:.0f} dBFS at its loudest);"
            " words may be missing; record it louder"
        )
    if turns == 0:
        raw = "; raw audio has to be PCM16, mono, of the rate that --rate says"
        return f"{name}: there is sound, but no speech was found{raw if name == '-' else ''}"
    return None


def _refuse(name: str, problem: AudioFormatError, report: Report) -> Outcome:
    """What a source that cannot be opened says instead of a conversation."""
    from textpro_stream.cli.notices import tell
    from textpro_stream.events import Failed, Finished, failure_code

    tell(str(problem))
    report.begin(name)
    report.show(Failed(0, 0, failure_code(problem), str(problem)))
    kinds = dict.fromkeys(("encoder", "decoder", "llm", "speech"), 0.0)
    report.show(Finished(0, 0, 0, 0, 0.0, kinds, NO_WORK))
    return "bad input"


def _write_trace(path: Path, traces: list[tuple[str, Trace]]) -> None:
    from textpro_stream.telemetry.trace import write_chrome_trace

    try:
        write_chrome_trace(path, traces)
    except OSError as error:
        raise ConfigError(
            f"--trace {path}: cannot be written ({error.strerror}); name a file elsewhere"
        ) from None
