"""Which voice activity detector, and what does it do to turns?

Both detectors hear the same clips, clean and under noise. Two questions: how well do frames agree
with the reference of `mix`, and what would `Endpointer` make of them (openings, cut-offs, delays)?
Note 0001 holds a table and what was concluded from it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from textpro_stream import store
from textpro_stream.config import Settings, TurnOptions
from textpro_stream.contracts import (
    FRAME,
    SAMPLE_RATE,
    AudioChunk,
    ListenedFrame,
    TurnSignal,
    samples_of_ms,
)
from textpro_stream.evaluate.manifest import Item, read_manifest
from textpro_stream.evaluate.mix import HOP, mix, read_audio, runs, speech_mask, surround
from textpro_stream.ports import VadModel
from textpro_stream.turn.barge_in import BargeIn, BargeInSignal
from textpro_stream.turn.endpoint import Endpointer
from textpro_stream.turn.vad import load_vad
from textpro_stream.turn.voice import VoiceTrack

VadName = Literal["silero", "webrtc"]
# Kinds whose recordings are quiet and whose speakers take turns: energy says where speech is.
CLEAN_KINDS = frozenset({"read", "command", "question", "speech", "long"})
CONDITIONS: tuple[float | None, ...] = (None, 20.0, 10.0, 0.0)  # SNR in dB; None is clean
_BEFORE, _AFTER = SAMPLE_RATE, 2 * SAMPLE_RATE  # background around a clip: turns need to end
_COLLAR = 5  # hops (50 ms) on each side of a boundary that are not scored: nobody knows better


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A clip under one condition, with where it speaks."""

    item: Item
    samples: NDArray[np.float32]
    speaking: NDArray[np.bool_]  # per 10 ms

    @property
    def first(self) -> int:
        """Sample index of the first speech."""
        return int(runs(self.speaking)[0, 0]) * HOP

    @property
    def last(self) -> int:
        """Sample index behind the last speech."""
        return int(runs(self.speaking)[-1, 1]) * HOP


@dataclass(frozen=True, slots=True)
class Listening:
    """What a detector said of a clip. Stands in for it: many settings, one run of the network."""

    frame: int
    probabilities: list[float]

    def open(self) -> Replay:
        """A detector that says it again."""
        return Replay(self)


class Replay:
    """A `Vad` that does not listen."""

    def __init__(self, listening: Listening) -> None:
        self.frame = listening.frame
        self._rest = iter(listening.probabilities)

    def probability(self, samples: NDArray[np.float32], /) -> float:
        """The next one."""
        return next(self._rest)


@dataclass(frozen=True, slots=True)
class VadRow:
    """One detector under one condition. Shares are of 1; times in ms."""

    vad: str
    condition: str
    miss: float  # share of speech frames without voice
    false_alarm: float  # share of other frames with voice
    f1: float
    auc: float
    onset_ms: tuple[float, float]  # turn opened, against the first speech: median, p95
    early_ms: tuple[float, float]  # where it says speech began, likewise: what pre-roll must cover
    stop_ms: tuple[float, float]  # where it says speech ended, against the last speech
    clipped: float  # share of clips whose first speech lies before the pre-roll
    unheard: int  # clips in which no turn opened
    opened_by_noise: float  # share of clips with a turn before the first speech; no times of these
    cut_short: float  # share of clips ended before their last speech if every pause is complete
    cut_long: float  # likewise if none is
    cpu: float  # CPU seconds per audio second


@dataclass(frozen=True, slots=True)
class NoiseRow:
    """One detector on clips without speech."""

    vad: str
    kind: str
    minutes: float
    voiced: float  # share of frames with voice
    openings_per_minute: float
    ducks_per_minute: float  # if a reply played all the time: lowered, and
    stops_per_minute: float  # stopped, each time to begin anew


@dataclass(frozen=True, slots=True)
class VadTable:
    """What `measure_vads` found; `str` prints it."""

    speech: list[VadRow] = field(default_factory=list)
    noise: list[NoiseRow] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([*_speech_lines(self.speech), "", *_noise_lines(self.noise)])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `textpro eval vad` takes."""
    parser.add_argument("manifest", type=Path, help="JSONL list of clips with speech")
    parser.add_argument("noise", type=Path, help="JSONL list of clips without")
    parser.add_argument("--limit", type=int, default=0, help="use so many clips; 0 uses all")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print the table."""
    silero = store.resolve("silero-vad", "vad")
    print(measure_vads(args.manifest, args.noise, silero, settings.turn, args.limit))
    return 0


def measure_vads(
    manifest: Path,
    noise_manifest: Path,
    silero: Path | None,
    options: TurnOptions | None = None,
    limit: int = 0,
) -> VadTable:
    """Measure each detector on clean clips, the same under noise, and noise alone.

    Args:
        manifest: clips with speech; only `CLEAN_KINDS` are used.
        noise_manifest: clips without; each speech clip gets one, in turn.
        silero: folder of Silero's weights; None leaves that detector out.
        options: thresholds and times of the turns; the defaults if None.
        limit: use so many speech clips, spread evenly; 0 uses all.

    Raises:
        ConfigError: a manifest cannot be read.
    """
    options = options or TurnOptions()
    noises = read_manifest(noise_manifest, wordless=True)
    sounds = [read_audio(noise.audio) for noise in noises]
    items = read_manifest(manifest, CLEAN_KINDS, limit, wordless=True)
    names: tuple[VadName, ...] = ("silero", "webrtc") if silero else ("webrtc",)
    table = VadTable()
    for name in names:
        chosen = replace(options, vad=name)
        model = load_vad(chosen, silero)
        for snr_db in CONDITIONS:
            condition = "clean" if snr_db is None else f"{snr_db:.0f} dB"
            cpu_s, audio_s = 0.0, 0.0
            heard = []
            for clip in clips(items, sounds, snr_db):
                began = time.process_time()
                heard.append((clip, listen(model, clip.samples)))
                cpu_s += time.process_time() - began
                audio_s += len(clip.samples) / SAMPLE_RATE
            table.speech.append(speech_row(chosen, condition, cpu_s / audio_s, heard))
        for kind in sorted({noise.kind for noise in noises}):
            same = [x for x, n in zip(sounds, noises, strict=True) if n.kind == kind]
            table.noise.append(noise_row(chosen, kind, [(len(x), listen(model, x)) for x in same]))
    return table


def clips(
    items: Sequence[Item], noises: Sequence[NDArray[np.float32]], snr_db: float | None
) -> Iterator[Clip]:
    """The items under one condition; `None` leaves them clean. Clips without speech are skipped."""
    for i, item in enumerate(items):
        samples = surround(read_audio(item.audio), _BEFORE, _AFTER)
        speaking = speech_mask(samples)
        if not speaking.any():
            continue
        if snr_db is not None:
            samples = mix(samples, speaking, noises[i % len(noises)], snr_db)
        yield Clip(item, samples, speaking)


def listen(model: VadModel, samples: NDArray[np.float32]) -> Listening:
    """Run a fresh detector over a clip and keep what it says."""
    vad = model.open()
    n = len(samples) // vad.frame
    windows = samples[: n * vad.frame].reshape(n, vad.frame)
    return Listening(vad.frame, [vad.probability(window) for window in windows])


def turns(
    model: VadModel, options: TurnOptions, n_samples: int, p_end: float | None
) -> list[TurnSignal]:
    """What the endpoint machine says, if the words promise `p_end` at every pause."""
    endpointer = Endpointer(model.open(), options)
    frame = np.zeros(FRAME, np.float32)
    signals: list[TurnSignal] = []
    for start in range(0, n_samples - FRAME + 1, FRAME):
        new = endpointer.push(ListenedFrame(AudioChunk(frame, start)))
        signals += new
        if any(signal.kind == "eager" for signal in new):
            endpointer.evidence(p_end or 0.0)
    return signals


def barge_ins(listening: Listening, options: TurnOptions, n_samples: int) -> list[BargeInSignal]:
    """What barge-in says of a clip that plays over one reply after another."""
    _, probability = voiced_hops(listening, options.threshold, n_samples // HOP)
    machine, said = BargeIn(options), list[BargeInSignal]()
    for voice in probability[:: FRAME // HOP]:
        if signal := machine.push(float(voice), interruptible=True):
            said.append(signal)
        if signal == "stop":
            machine.push(0.0, interruptible=False)
    return said


def voiced_hops(
    listening: Listening, threshold: float, n_hops: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Voice (with hysteresis) and probability of each 10 ms, both of shape (n_hops,)."""
    track = VoiceTrack(listening.open(), threshold)
    n_samples = listening.frame * len(listening.probabilities)
    windows = track.push(AudioChunk(np.zeros(n_samples, np.float32), 0))
    middle = np.arange(n_hops) * HOP + HOP // 2
    index = np.minimum(middle // listening.frame, len(windows) - 1)
    voiced = np.array([window.voiced for window in windows])
    return voiced[index], np.array(listening.probabilities)[index]


def speech_row(
    options: TurnOptions, condition: str, cpu: float, heard: Sequence[tuple[Clip, Listening]]
) -> VadRow:
    """Sum up what a detector said of clips with speech."""
    truth, voice, probability = [], [], []
    onset, early, stop = [], [], []
    unheard, noisy, cut_short, cut_long, clipped = 0, 0, 0, 0, 0
    preroll = samples_of_ms(options.preroll_ms)
    for clip, listening in heard:
        voiced, p = voiced_hops(listening, options.threshold, len(clip.speaking))
        sure = _away_from_edges(clip.speaking)
        truth.append(clip.speaking[sure])
        voice.append(voiced[sure])
        probability.append(p[sure])
        n = len(clip.samples)
        patient = turns(listening, options, n, None)
        hasty = turns(listening, options, n, 1.0)
        cut_long += _cuts(patient, clip)
        cut_short += _cuts(hasty, clip)
        opened = [s for s in patient if s.kind == "speech_started"]
        if any(s.at <= clip.first for s in opened):
            noisy += 1
            continue
        if not opened or opened[0].speech > clip.last:
            unheard += 1
            continue
        onset.append(opened[0].at - clip.first)
        early.append(opened[0].speech - clip.first)
        clipped += early[-1] > preroll
        ends = [s.speech for s in patient if s.kind == "speech_stopped" and s.at >= clip.last]
        stop += [end - clip.last for end in ends[:1]]
    said, real = np.concatenate(voice), np.concatenate(truth)
    miss, false_alarm = float(1 - said[real].mean()), float(said[~real].mean())
    hits = float((said & real).sum())
    return VadRow(
        vad=options.vad,
        condition=condition,
        miss=miss,
        false_alarm=false_alarm,
        f1=2 * hits / float(said.sum() + real.sum()),
        auc=area_under_curve(np.concatenate(probability), real),
        onset_ms=_spread_ms(onset),
        early_ms=_spread_ms(early),
        stop_ms=_spread_ms(stop),
        clipped=clipped / max(1, len(early)),
        unheard=unheard,
        opened_by_noise=noisy / len(heard),
        cut_short=cut_short / len(heard),
        cut_long=cut_long / len(heard),
        cpu=cpu,
    )


def noise_row(options: TurnOptions, kind: str, heard: Sequence[tuple[int, Listening]]) -> NoiseRow:
    """Sum up what a detector said of clips without speech; `heard` has their samples."""
    openings, ducks, stops, voiced = 0, 0, 0, []
    for n, listening in heard:
        barged = barge_ins(listening, options, n)
        ducks += barged.count("duck")
        stops += barged.count("stop")
        signals = turns(listening, options, n, None)
        openings += sum(signal.kind == "speech_started" for signal in signals)
        voiced.append(voiced_hops(listening, options.threshold, n // HOP)[0])
    minutes = sum(n for n, _ in heard) / SAMPLE_RATE / 60
    share = float(np.concatenate(voiced).mean())
    per_minute = [count / minutes for count in (openings, ducks, stops)]
    return NoiseRow(options.vad, kind, minutes, share, *per_minute)


def area_under_curve(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Probability that a speech frame scores above another; ties count half (Mann-Whitney)."""
    _, where, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    rank = (last - (counts - 1) / 2)[where]
    n_true, n_false = int(truth.sum()), int((~truth).sum())
    above = float(rank[truth].sum()) - n_true * (n_true + 1) / 2
    return above / (n_true * n_false)


def _cuts(signals: Sequence[TurnSignal], clip: Clip) -> bool:
    """Whether a turn that held speech ended before the clip's last speech."""
    return any(s.kind == "endpoint" and clip.first < s.at < clip.last for s in signals)


def _away_from_edges(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    sure = np.ones(len(mask), np.bool_)
    for edge in runs(mask).ravel():
        sure[max(0, edge - _COLLAR) : edge + _COLLAR] = False
    return sure


def _spread_ms(samples: Sequence[int]) -> tuple[float, float]:
    """Median and 95th percentile in ms; not a number where there is nothing."""
    if not samples:
        return float("nan"), float("nan")
    median, p95 = np.percentile(np.array(samples) * 1000 / SAMPLE_RATE, [50, 95])
    return float(median), float(p95)


def _speech_lines(rows: Sequence[VadRow]) -> Iterator[str]:
    yield (
        "| detector | SNR | miss % | false alarm % | F1 | AUC | opened, ms | begins, ms"
        " | ends, ms | by noise % | clipped % | unheard | cut short % | cut long % | CPU s/s |"
    )
    yield "|---" * 15 + "|"
    for r in rows:
        times = " | ".join(f"{m:.0f} / {p:.0f}" for m, p in (r.onset_ms, r.early_ms, r.stop_ms))
        yield (
            f"| {r.vad} | {r.condition} | {100 * r.miss:.1f} | {100 * r.false_alarm:.1f}"
            f" | {r.f1:.3f} | {r.auc:.3f} | {times}"
            f" | {100 * r.opened_by_noise:.1f} | {100 * r.clipped:.1f} | {r.unheard}"
            f" | {100 * r.cut_short:.1f} | {100 * r.cut_long:.1f} | {r.cpu:.4f} |"
        )


def _noise_lines(rows: Sequence[NoiseRow]) -> Iterator[str]:
    yield (
        "| detector | without speech | minutes | voiced % | turns opened a minute"
        " | replies ducked | stopped |"
    )
    yield "|---" * 7 + "|"
    for r in rows:
        yield (
            f"| {r.vad} | {r.kind} | {r.minutes:.1f} | {100 * r.voiced:.1f}"
            f" | {r.openings_per_minute:.1f} | {r.ducks_per_minute:.1f}"
            f" | {r.stops_per_minute:.1f} |"
        )
