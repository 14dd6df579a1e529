"""Does a voice over a reply stop it, and does an "mm-hmm" not?

    textpro eval barge-in pauses.jsonl --split dev

The first stretch of each turn of the manifest (`turns.py` has its format) is said over a reply: to
the listener of a conversation, twice, once with the recogniser asked what the voice says, and once
judged by sound alone. A stretch of nothing but "yes", "okay" and the like should let the reply go
on; any other should stop it. What was said is what the recogniser makes of the whole stretch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textpro_stream.clock import MonotonicClock
from textpro_stream.config import Settings, TurnOptions
from textpro_stream.contracts import FRAME, SAMPLE_RATE, AudioChunk, has_words
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.evidence import load_hearing, open_listener
from textpro_stream.evaluate.manifest import comma_separated, spread
from textpro_stream.evaluate.mix import read_audio, surround
from textpro_stream.evaluate.turns import Turn, read_turns
from textpro_stream.events import TurnEnded
from textpro_stream.ports import VadModel
from textpro_stream.turn import BargeIn, Completeness, is_backchannel
from textpro_stream.turn.barge_in import BargeInSignal

if TYPE_CHECKING:
    from textpro_stream.whisper import WhisperPro

_BEFORE, _BEHIND = SAMPLE_RATE // 2, SAMPLE_RATE  # background around a stretch
_LEAD = SAMPLE_RATE // 10  # of the file in front of the voice
_LONGEST = 3 * SAMPLE_RATE  # of a stretch: whoever has not stopped a reply by then never will


class _Counted(BargeIn):
    """Counts how often it asks, and what the answers cost."""

    def __init__(self, options: TurnOptions) -> None:
        super().__init__(options)
        self.asked, self.asked_cpu_s = 0, 0.0

    def push(
        self,
        voice: float,
        interruptible: bool,
        words: str = "",
        overhear: Callable[[], str | None] = lambda: None,
    ) -> BargeInSignal | None:
        def counted() -> str | None:
            clock = MonotonicClock()
            before = clock.cpu()
            said = overhear()
            self.asked += 1
            self.asked_cpu_s += clock.cpu() - before
            return said

        return super().push(voice, interruptible, words, counted)


class _Deaf(BargeIn):
    """By sound alone."""

    def push(
        self,
        voice: float,
        interruptible: bool,
        words: str = "",
        overhear: Callable[[], str | None] = lambda: None,
    ) -> BargeInSignal | None:
        return super().push(voice, interruptible, words)


@dataclass(frozen=True, slots=True)
class Said:
    """One stretch over a reply; seconds from its voice to the stop, None if it went on."""

    text: str
    by_sound_s: float | None
    by_words_s: float | None
    asked: int = 0  # how often its words were asked for
    asked_cpu_s: float = 0.0  # what that took


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `textpro eval barge-in` takes."""
    parser.add_argument("manifest", type=Path, help="JSONL list of pauses")
    parser.add_argument("--split", default="", help="only these splits, e.g. dev,test")
    parser.add_argument("--kinds", default="", help="only these kinds, e.g. dialogue")
    parser.add_argument("--limit", type=int, default=0, help="use so many turns; 0 uses all")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print the table."""
    import torch

    splits, kinds = comma_separated(args.split), comma_separated(args.kinds)
    turns = spread(read_turns(args.manifest, splits=splits, kinds=kinds), args.limit)
    whisper, vad = load_hearing(settings)
    with torch.inference_mode():
        said = [say(turn, whisper, vad, settings.turn) for turn in turns]
    print(table(said))
    return 0


def say(turn: Turn, whisper: WhisperPro, vad: VadModel, options: TurnOptions) -> Said:
    """The first stretch of a turn, over a reply that never ends."""
    begin = round(turn.start_s * SAMPLE_RATE)
    end = min(begin + _LONGEST, round((turn.pauses[0].start_s + 0.2) * SAMPLE_RATE))
    samples = surround(read_audio(turn.audio)[max(0, begin - _LEAD) : end], _BEFORE, _BEHIND)
    voice = _BEFORE + min(begin, _LEAD)
    counted = _Counted(options)
    text, by_words_s = _over(samples, voice, whisper, vad, options, counted)
    _, by_sound_s = _over(samples, voice, whisper, vad, options, _Deaf(options))
    return Said(text, by_sound_s, by_words_s, counted.asked, counted.asked_cpu_s)


def _over(
    samples: NDArray[np.float32],
    voice: int,
    whisper: WhisperPro,
    vad: VadModel,
    options: TurnOptions,
    barge_in: BargeIn,
) -> tuple[str, float | None]:
    """What was said, and seconds from the voice to the stop."""
    listener = open_listener(whisper, vad, options, Completeness(), barge_in)
    stopped_s: float | None = None
    texts: list[str] = []
    for start in range(0, len(samples) - FRAME + 1, FRAME):
        chunk = AudioChunk(samples[start : start + FRAME], start)
        listened = listener.push([chunk], interruptible=True)
        if "stop" in listened.barged and stopped_s is None:
            stopped_s = (chunk.end - voice) / SAMPLE_RATE
        texts += (e.transcript for e in listened.events if isinstance(e, TurnEnded))
    texts += (e.transcript for e in listener.finish().events if isinstance(e, TurnEnded))
    return "".join(texts), stopped_s


def table(said: Sequence[Said]) -> str:
    """What stopped replies, and how soon.

    Raises:
        ConfigError: nobody said a word.
    """
    spoken = [one for one in said if has_words(one.text)]
    if not spoken:
        raise ConfigError("no words in any of the turns")
    lines = [
        "| said over a reply | n | stopped by sound alone | after | stopped with words | after |"
        " asked | CPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, yes in (("only yes, okay, mm-hmm …", True), ("anything else", False)):
        those = [one for one in spoken if is_backchannel(one.text) == yes]
        cells = [_cells([one.by_sound_s for one in those]), _cells([o.by_words_s for o in those])]
        asked = [f"{sum(o.asked for o in those) / max(1, len(those)):.1f} times"]
        asked.append(f"{sum(o.asked_cpu_s for o in those) / max(1, len(those)):.2f} s")
        lines.append(f"| {name} | {len(those)} | {' | '.join([*cells, *asked])} |")
    return "\n".join(lines)


def _cells(stops: Sequence[float | None]) -> str:
    found = [stop for stop in stops if stop is not None]
    if not found:
        return "0 | "
    middle, late = (1000 * float(np.percentile(found, q)) for q in (50, 95))
    return f"{len(found)} | {middle:.0f} ms, p95 {late:.0f} ms"
