"""Streaming recognition against the same model offline: words, lag, work and cost.

    textpro eval transcribe MANIFEST            both modes, every figure, the ten worst clips
    textpro eval transcribe MANIFEST --curve    streaming alone over block and look-ahead

Audio is pushed as a microphone would, without a pause between chunks; lag is on the audio clock
(audio heard when a word was committed, less where the word ended), so it does not depend on the
machine. What the machine adds is printed beside it as time per block.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from textpro_stream import store
from textpro_stream.clock import MonotonicClock
from textpro_stream.config import Settings
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, TokenSpan, seconds
from textpro_stream.evaluate.manifest import Item, read_manifest
from textpro_stream.evaluate.mix import read_audio
from textpro_stream.evaluate.reference import Reference, transcribe_references
from textpro_stream.evaluate.score import Errors, Summary, TimedWord, errors, lags
from textpro_stream.telemetry.trace import Trace
from textpro_stream.whisper import WhisperPro, Work

CHUNK = 1600  # samples a push: 100 ms, as sockets send them
CURVE = (
    (320, 320),
    (320, 960),
    (480, 480),
    (640, 0),
    (640, 320),
    (640, 640),
    (640, 960),
    (960, 480),
)


@dataclass(slots=True)
class Recognized:
    """One clip, one mode."""

    text: str = ""
    words: list[TimedWord] = field(default_factory=list)  # with the audio heard at the commit
    erased: int = 0  # shown tokens of the open tail that a later step took back
    blocks_s: list[float] = field(default_factory=list)  # CPU seconds of each push that did work


@dataclass(slots=True)
class Tally:
    """All clips of one setting."""

    errors: Errors = field(default_factory=Errors)
    lags_s: list[float] = field(default_factory=list)
    blocks_s: list[float] = field(default_factory=list)
    erased: int = 0
    audio_s: float = 0.0
    cpu_s: float = 0.0
    busy_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    work: Work = field(default_factory=Work)

    def line(self) -> str:
        """The figures of one setting on one line."""
        lag, e, w = Summary.of(self.lags_s), self.errors, self.work
        heard = max(1, w.positions_heard)
        return (
            f"WER {e.wer:5.2f} % (S {e.substitutions} D {e.deletions} I {e.insertions}"
            f" of {e.words})  lag mean {lag.mean:.2f} median {lag.p50:.2f} p95 {lag.p95:.2f} s"
            f" (n {lag.n})"
            # a commit cannot be taken back: there is no event that would say so
            f"  revisions 0, tail tokens erased per token"
            f" {self.erased / max(1, w.tokens_committed):.2f}"
            f"  CPU s per audio s {self.cpu_s / self.audio_s:.3f}"
            f" (encoder {self.busy_s['encoder'] / self.audio_s:.3f},"
            f" decoder {self.busy_s['decoder'] / self.audio_s:.3f})"
            f"  frames final/provisional per frame {w.positions_final / heard:.2f}"
            f"/{w.positions_provisional / heard:.2f}"
            f"  decoder passes per token {w.decoder_passes / max(1, w.tokens_committed):.2f}"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro eval transcribe`."""
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="JSONL: id, audio, text")
    parser.add_argument("--kinds", default="", help="only these kinds, comma-separated")
    parser.add_argument("--limit", type=int, default=0, help="so many clips, spread over the file")
    parser.add_argument("--curve", action="store_true", help="sweep block and look-ahead")
    parser.add_argument("--texts", action="store_true", help="print all texts of every clip")
    parser.add_argument(
        "--reference", type=Path, default=None, help="keep the library's transcripts in this file"
    )
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")


@torch.inference_mode()  # as the device thread of a conversation
def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print; 0 when every clip could be read."""
    torch.set_num_threads(settings.device.threads or 1)
    kinds = frozenset(kind for kind in args.kinds.split(",") if kind)
    items = read_manifest(args.manifest, kinds, args.limit)
    folder = store.resolve(settings.whisper.model, "whisper")
    known = transcribe_references(folder, items, read_audio, args.reference)
    print(f"{len(items)} clips; references for {len(known)} (up to 30 s)", flush=True)
    if args.curve:
        for block_ms, look_ahead_ms in CURVE:
            options = replace(settings.whisper, block_ms=block_ms, look_ahead_ms=look_ahead_ms)
            model = WhisperPro.load(folder, options, torch.device("cpu"))
            tally = Tally()
            for item in items:
                audio = read_audio(item.audio)
                listen(model, item, audio, known.get(item.id), tally)
            print(f"block {block_ms} look-ahead {look_ahead_ms} ms: {tally.line()}", flush=True)
        return 0
    model = WhisperPro.load(folder, settings.whisper, torch.device("cpu"))
    offline, streaming = Tally(), Tally()
    rows: list[tuple[Item, Recognized, Recognized]] = []
    for item in items:
        audio = read_audio(item.audio)
        whole = listen(model, item, audio, None, offline, offline=True)
        live = listen(model, item, audio, known.get(item.id), streaming)
        rows.append((item, whole, live))
    print(f"offline    {offline.line()}")
    print(f"streaming  {streaming.line()}")
    blocks = Summary.of(streaming.blocks_s)
    print(f"per block: median {blocks.p50 * 1e3:.0f} p95 {blocks.p95 * 1e3:.0f} ms of CPU")
    _by_kind(rows)
    _equality(rows, known)
    _worst(rows, everything=args.texts)
    if args.json:
        figures = {
            "offline_wer": offline.errors.wer,
            "streaming_wer": streaming.errors.wer,
            "lag_s": asdict(Summary.of(streaming.lags_s)),
            "cpu_per_audio_s": streaming.cpu_s / streaming.audio_s,
            "erased": streaming.erased,
            "work": asdict(streaming.work),
            "texts": {item.id: [a.text, b.text] for item, a, b in rows},
        }
        args.json.write_text(json.dumps(figures, indent=1))
    return 0


def listen(
    model: WhisperPro,
    item: Item,
    audio: NDArray[np.float32],
    reference: Reference | None,
    tally: Tally,
    *,
    offline: bool = False,
) -> Recognized:
    """Run one clip through the recogniser and add it to a tally.

    Args:
        model: the recogniser's weights.
        item: the clip's entry.
        audio: mono, 16 kHz.
        reference: with word ends, for lag; None leaves lag out.
        tally: added to.
        offline: one push, whole windows.
    """
    clock = MonotonicClock()
    trace = Trace(clock)
    recognizer = model.offline(trace) if offline else model.open(0, trace)
    heard = Recognized()
    spans: list[tuple[TokenSpan, int]] = []
    tail: list[int] = []
    began = clock.cpu()
    step = len(audio) if offline else CHUNK
    for at in range(0, len(audio), max(1, step)):
        chunk = AudioChunk(audio[at : at + step], at)
        before = clock.cpu()
        transcripts = recognizer.push(chunk)
        if transcripts:
            heard.blocks_s.append(clock.cpu() - before)
        for transcript in transcripts:
            spans += [(span, chunk.end) for span in transcript.committed]
            now = [i for span in transcript.committed for i in span.ids]
            shown = now + [i for span in transcript.hypothesis for i in span.ids]
            kept = sum(
                1
                for _ in itertools.takewhile(lambda p: p[0] == p[1], zip(tail, shown, strict=False))
            )
            heard.erased += len(tail) - kept
            tail = shown[len(now) :]
    for transcript in recognizer.finish():
        spans += [(span, len(audio)) for span in transcript.committed]
    tally.cpu_s += clock.cpu() - began
    heard.text = "".join(span.text for span, _ in spans).strip()
    for span, at in spans:
        if heard.words and not span.text.startswith(" "):
            heard.words[-1] = TimedWord(heard.words[-1].text + span.text, seconds(at))
        else:
            heard.words.append(TimedWord(span.text, seconds(at)))
    tally.errors += errors(item.text, heard.text)
    tally.audio_s += len(audio) / SAMPLE_RATE
    tally.erased += heard.erased
    tally.blocks_s += heard.blocks_s
    for name, busy in trace.busy.items():
        tally.busy_s[name] += busy
    for counter in fields(Work):
        total = getattr(tally.work, counter.name) + getattr(recognizer.work, counter.name)
        setattr(tally.work, counter.name, total)
    if reference is not None:
        tally.lags_s += lags(heard.words, reference.words)
    return heard


Row = tuple[Item, Recognized, Recognized]


def _by_kind(rows: Sequence[Row]) -> None:
    kinds = sorted({item.kind for item, _, _ in rows})
    if len(kinds) < 2:
        return
    for kind in kinds:
        offline, streaming = Errors(), Errors()
        for item, whole, live in rows:
            if item.kind == kind:
                offline += errors(item.text, whole.text)
                streaming += errors(item.text, live.text)
        print(f"  {kind:10} {offline.words:5} words: {offline.wer:6.2f} -> {streaming.wer:6.2f} %")


def _equality(rows: Sequence[Row], known: dict[str, Reference]) -> None:
    compared = [(item, whole) for item, whole, _ in rows if item.id in known]
    if not compared:
        return
    other = [(item, whole) for item, whole in compared if whole.text != known[item.id].text.strip()]
    same = len(compared) - len(other)
    share = 100 * same / len(compared)
    print(f"offline text equal to transformers on {same} of {len(compared)} clips ({share:.1f} %)")
    for item, whole in other:
        print(f"  {item.id}\n    ours  {whole.text}\n    theirs {known[item.id].text}")


def _worst(rows: Sequence[Row], *, everything: bool) -> None:
    def lost(row: Row) -> float:
        e, words = errors(row[0].text, row[2].text), errors(row[0].text, row[1].text)
        return (e.deletions - words.deletions) / max(1, e.words)

    def worse(row: Row) -> float:
        return errors(row[0].text, row[2].text).wer - errors(row[0].text, row[1].text).wer

    third = [row[0].id for row in rows if lost(row) > 1 / 3]
    print(f"clips that lose more than a third of their words by streaming: {third or 'none'}")
    print("worst against offline:" if not everything else "all clips, worst first:")
    for item, whole, live in sorted(rows, key=worse, reverse=True)[: None if everything else 10]:
        before, after = errors(item.text, whole.text).wer, errors(item.text, live.text).wer
        print(f"  {item.id}: {before:.0f} -> {after:.0f} %")
        print(f"    spoken    {item.text}\n    offline   {whole.text}\n    streaming {live.text}")
