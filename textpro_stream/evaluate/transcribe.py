"""Words as users get them: a conversation, the recogniser alone, and the same model offline.

    textpro eval transcribe MANIFEST            all three, every figure, the ten worst clips
    textpro eval transcribe MANIFEST --curve    conversations alone over block and look-ahead

Lag is on the audio clock (audio heard when a word was committed, less where the word ended), so it
does not depend on the machine. CPU of a conversation is all that `textpro stream --fast --no-reply`
does for a clip, start-up left out: voice activity, recogniser, previews at pauses, prosody. CPU of
the recogniser alone has nothing else in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textpro_stream import store
from textpro_stream.config import Settings
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.evaluate import side_by_side
from textpro_stream.evaluate.manifest import Item, comma_separated, read_manifest
from textpro_stream.evaluate.mix import read_audio
from textpro_stream.evaluate.reference import References
from textpro_stream.evaluate.score import Summary
from textpro_stream.evaluate.side_by_side import Row
from textpro_stream.evaluate.tally import Tally
from textpro_stream.evaluate.ways import Recognized, as_published, converse, recognize
from textpro_stream.pipeline import Engine
from textpro_stream.whisper import WhisperPro

CURVE = (
    (320, 320),
    (320, 960),
    (480, 320),
    (640, 0),
    (640, 320),
    (640, 640),
    (640, 960),
    (960, 480),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro eval transcribe`."""
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="JSONL: id, audio, text")
    parser.add_argument("--kinds", default="", help="only these kinds, comma-separated")
    parser.add_argument("--limit", type=int, default=0, help="so many clips, spread over the file")
    parser.add_argument("--curve", action="store_true", help="sweep block and look-ahead")
    parser.add_argument("--texts", action="store_true", help="print all texts of every clip")
    parser.add_argument(
        "--reference",
        type=Path,
        default=None,
        help="keep what does not stream, the library's transcripts and the offline ones, in this"
        " file; a run that finds them there pays for streaming alone",
    )
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print; 0 when every clip could be read."""
    # One thread: those that wait for work would count as CPU, and nobody else talks meanwhile.
    device = replace(settings.device, name="cpu", threads=settings.device.threads or 1)
    turn = replace(settings.turn, barge_in=False, push_to_talk=False)  # a file has no listener
    settings = replace(settings, device=device, turn=turn)
    items = read_manifest(args.manifest, comma_separated(args.kinds), args.limit)
    model = settings.whisper.model
    references = References(args.reference, model, store.resolve(model, "whisper"))
    references.transcribe(items, read_audio)
    print(f"{len(items)} clips; references for {len(references.library)} (up to 30 s)", flush=True)
    if args.curve:
        return asyncio.run(_curve(items, references, settings))
    return asyncio.run(_compare(items, references, settings, args))


async def _curve(items: Sequence[Item], references: References, settings: Settings) -> int:
    for block_ms, look_ahead_ms in CURVE:
        options = replace(settings.whisper, block_ms=block_ms, look_ahead_ms=look_ahead_ms)
        tally = Tally()
        async with await Engine.load(replace(settings, whisper=options), replies=False) as engine:
            for item in items:
                audio = read_audio(item.audio)
                heard = await converse(engine, audio)
                reference = references.library.get(item.id)
                tally.add(item, heard, len(audio) / SAMPLE_RATE, reference)
        print(f"block {block_ms} look-ahead {look_ahead_ms} ms: {tally.line()}", flush=True)
    return 0


async def _compare(
    items: Sequence[Item], references: References, settings: Settings, args: argparse.Namespace
) -> int:
    offline, conversation, alone = Tally(), Tally(), Tally()
    rows: list[Row] = []
    kept = 0  # offline texts of an earlier run
    base: WhisperPro | None = None  # loaded when a clip is not kept
    async with await Engine.load(settings, replies=False) as engine:
        for item in items:
            audio = read_audio(item.audio)
            audio_s = len(audio) / SAMPLE_RATE
            known = references.offline.get(item.id)
            kept += known is not None
            if known is None:
                base = base or as_published(settings)
                whole = recognize(base, audio, offline=True)
                references.keep_offline(item.id, whole.text)
            else:
                whole = Recognized(known)
            talk = await converse(engine, audio)
            one = recognize(engine.asr, audio)
            reference = references.library.get(item.id)
            offline.add(item, whole, audio_s)
            conversation.add(item, talk, audio_s, reference)
            alone.add(item, one, audio_s, reference)
            rows.append(Row(item, whole.text, talk.text, one.text))
    cost = f"{kept} of them kept" if kept else f"CPU {offline.cpu_s / offline.audio_s:.3f}"
    print(f"offline       {offline.words_line()}  {cost}")
    print(f"conversation  {conversation.line()}")
    print(f"alone         {alone.line()}")
    blocks = Summary.of(alone.blocks_s)
    print(f"per block, alone: median {blocks.p50 * 1e3:.0f} p95 {blocks.p95 * 1e3:.0f} ms of CPU")
    for line in (
        *side_by_side.differences(rows),
        *side_by_side.kinds(offline, conversation, alone),
        *side_by_side.equality(rows, references.library),
        *side_by_side.worst(rows, everything=args.texts),
    ):
        print(line)
    if args.json:
        figures: dict[str, Any] = {
            "offline": {"wer": offline.errors.wer},
            "conversation": conversation.figures(),
            "alone": alone.figures(),
            "texts": {row.item.id: [row.offline, row.conversation, row.alone] for row in rows},
        }
        args.json.write_text(json.dumps(figures, indent=1))
    return 0
