"""Do the words tell a pause from an end?

Every pause in a clip is a question that a conversation has to answer: this runs detector and
recognizer over each clip as the pipeline does, notes what would have been committed there, and
sets what the words promise against what the speaker did. Clips are read or dictated, and cut where
their corpus cut them: real talk pauses more, and knows better when it is done.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textpro_stream import store
from textpro_stream.config import Settings, TurnOptions
from textpro_stream.contracts import (
    FRAME,
    SAMPLE_RATE,
    AudioChunk,
    ListenedFrame,
    Transcript,
    samples_of_ms,
    seconds,
)
from textpro_stream.evaluate.manifest import read_manifest
from textpro_stream.evaluate.mix import read_audio, surround
from textpro_stream.ports import VadModel
from textpro_stream.turn.completeness import p_end_of_turn
from textpro_stream.turn.endpoint import Endpointer, wait
from textpro_stream.turn.vad import load_vad

if TYPE_CHECKING:
    from textpro_stream.whisper import Recognizer, WhisperPro

# The longest silences that the options allow; no clip has such, so pauses are watched to their end.
_NEVER_MS, _NEVER_LONG_MS = 10_000, 30_000
_LONGEST = 60 * SAMPLE_RATE  # samples of a clip that are used
_AROUND = (SAMPLE_RATE, 2 * SAMPLE_RATE)  # background before and behind a clip


@dataclass(frozen=True, slots=True)
class Pause:
    """One silence of at least `eager_ms`."""

    clip: str
    text: str  # the turn so far, as it would have been committed here
    silence_ms: float | None  # until the voice came back; None where the clip ended


@dataclass(frozen=True, slots=True)
class PauseTable:
    """What `measure_pauses` found; `str` prints it."""

    pauses: list[Pause]

    def policy(self, silence_ms: float, long_ms: float) -> tuple[int, float]:
        """Cut-offs, and mean silence in ms before a true end; equal figures ignore the words."""
        waits = [wait(p_end_of_turn(pause.text), silence_ms, long_ms) for pause in self.pauses]
        pairs = list(zip(self.pauses, waits, strict=True))
        cut = sum(p.silence_ms is not None and p.silence_ms > wait for p, wait in pairs)
        delays = [wait for pause, wait in pairs if pause.silence_ms is None]
        return cut, float(np.mean(delays)) if delays else float("nan")

    def __str__(self) -> str:
        return "\n".join([*self._evidence_lines(), "", *self._policy_lines()])

    def _evidence_lines(self) -> Iterator[str]:
        ends = [p_end_of_turn(p.text) for p in self.pauses if p.silence_ms is None]
        inside = [p_end_of_turn(p.text) for p in self.pauses if p.silence_ms is not None]
        yield "| P(end of turn) of the words | ends | pauses |"
        yield "|---|---|---|"
        for level in sorted({*ends, *inside}, reverse=True):
            yield f"| {level:.2f} | {ends.count(level)} | {inside.count(level)} |"

    def _policy_lines(self) -> Iterator[str]:
        n = sum(p.silence_ms is not None for p in self.pauses)
        yield f"| silence, ms | cut-offs of {n} pauses | mean wait, ms | cut by a fixed wait |"
        yield "|---|---|---|---|"
        for short, long in ((400, 1200), (500, 1000), (500, 1500), (600, 1500)):
            cut, wait = self.policy(short, long)
            yield f"| {short} to {long} | {cut} | {wait:.0f} | {self.policy(wait, wait)[0]} |"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `textpro eval pauses` takes."""
    parser.add_argument("manifest", type=Path, help="JSONL list of clips with speech")
    parser.add_argument("--kinds", default="", help="only these kinds, e.g. command,question")
    parser.add_argument("--limit", type=int, default=0, help="use so many clips; 0 uses all")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print the tables."""
    import torch

    from textpro_stream.runtime.hardware import torch_device
    from textpro_stream.whisper import WhisperPro

    device = torch_device(settings.device)
    folder = store.resolve(settings.whisper.model, "whisper")
    whisper = WhisperPro.load(folder, settings.whisper, device)
    vad = load_vad(settings.turn, store.resolve("silero-vad", "vad"))
    kinds = frozenset(filter(None, args.kinds.split(",")))
    with torch.inference_mode():  # as the device thread of a conversation
        table = measure_pauses(args.manifest, whisper, vad, settings.turn, kinds, args.limit)
    print(table)
    return 0


def measure_pauses(
    manifest: Path,
    whisper: WhisperPro,
    vad: VadModel,
    options: TurnOptions | None = None,
    kinds: frozenset[str] = frozenset(),
    limit: int = 0,
) -> PauseTable:
    """Collect every pause of the clips, with the words before it.

    Args:
        manifest: clips with speech; their texts are not used.
        whisper: the recognizer whose words count.
        vad: the detector whose pauses count.
        options: when a pause is one; the defaults if None.
        kinds: only clips of these kinds; empty takes all.
        limit: use so many clips, spread evenly; 0 uses all.

    Raises:
        ConfigError: the manifest cannot be read.
    """
    options = options or TurnOptions()
    pauses: list[Pause] = []
    for item in read_manifest(manifest, kinds, limit):
        samples = surround(read_audio(item.audio)[:_LONGEST], *_AROUND)
        pauses += _pauses(item.id, samples, whisper, vad, options)
    return PauseTable(pauses)


def _pauses(
    clip: str,
    samples: NDArray[np.float32],
    whisper: WhisperPro,
    vad: VadModel,
    options: TurnOptions,
) -> list[Pause]:
    watching = replace(options, silence_ms=_NEVER_MS, silence_long_ms=_NEVER_LONG_MS)
    endpointer = Endpointer(vad.open(), watching)
    recognizer: Recognizer | None = None
    given = 0  # samples that the recognizer has
    text = ""
    pauses: list[Pause] = []
    silent_since = 0
    for start in range(0, len(samples) - FRAME + 1, FRAME):
        end = start + FRAME
        for signal in endpointer.push(ListenedFrame(AudioChunk(samples[start:end], start))):
            if signal.kind == "speech_started":
                given = max(0, signal.speech - samples_of_ms(options.preroll_ms))
                recognizer = whisper.open(given)
            elif signal.kind == "eager" and recognizer is not None:
                text += _committed(recognizer.push(AudioChunk(samples[given:end], given)))
                given = end
                ending = "".join(span.text for span in recognizer.preview().spans)
                silent_since = signal.speech
                pauses.append(Pause(clip, text + ending, None))
            elif signal.kind == "resumed":
                silence_ms = 1000 * seconds(signal.speech - silent_since)
                pauses[-1] = replace(pauses[-1], silence_ms=silence_ms)
    return pauses


def _committed(transcripts: Sequence[Transcript]) -> str:
    return "".join(span.text for transcript in transcripts for span in transcript.committed)
