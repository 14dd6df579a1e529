"""How often is the tone readout right, and does it know?

    textpro eval prosody MANIFEST              JSONL: id, audio, speaker, emotion

Reads each clip as a turn of a speaker unknown so far, and tells by corpus: emotions right against
the commonest label, mean recall over labels, what is named and how often that is right, what an LLM
is told of (tags: an emotion, or agitated) and how often that fits, arousal, and calibration. For
speakers of the data that the readout was trained on, `textpro train tone` reports on each with a
readout that has not heard them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textpro_stream.config import Settings
from textpro_stream.contracts import AGITATED as TOLD_AGITATED
from textpro_stream.contracts import UNSURE, ToneReading
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.bootstrap import interval
from textpro_stream.evaluate.evidence import heard_with, load_hearing
from textpro_stream.evaluate.manifest import comma_separated, spread
from textpro_stream.evaluate.said import PLAIN, Said, hear, read_labelled
from textpro_stream.llm.tags import tag_of
from textpro_stream.prosody.tone import ToneHead, find_tone

Floats = NDArray[np.float64]

# What is agitated and what is calm, by the name that a corpus gives it; the rest is neither.
AGITATED = frozenset({"anger", "fear", "happiness"})
CALM = frozenset({"boredom", "neutral", "sadness"})
BINS = 10  # of probabilities, in the calibration error


@dataclass(frozen=True, slots=True)
class Figures:
    """One corpus. Shares are 0 to 1."""

    corpus: str
    clips: int
    without_words: int
    speakers: int
    labels: int
    right: float
    low: float  # 95 % of `right`, speakers drawn anew
    high: float
    recall: float
    commonest: float  # share of the commonest label
    named: float  # share of clips whose emotion is named at all
    named_right: float  # of those
    tagged: float  # share of clips of which an LLM is told something
    tagged_right: float  # of those, what fits: the label, or agitated where it is one of those
    calibration: float  # expected error of the likeliest label's probability
    aroused_right: float  # of those told agitated or calm
    aroused_told: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro eval prosody`."""
    parser.add_argument("manifest", type=Path, metavar="MANIFEST", help="JSONL list of clips")
    parser.add_argument("--split", default="", help="only these, comma-separated")
    parser.add_argument(
        "--plain", type=int, default=0, help="clips without an emotion: how often is one named?"
    )
    parser.add_argument("--limit", type=int, default=0, help="so many clips, spread evenly")
    parser.add_argument("--cache", type=Path, help="file (.npz) that keeps what was heard")
    parser.add_argument("--json", type=Path, help="also write the figures here, a corpus a line")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Measure and print; 0."""
    found = read_labelled(args.manifest, comma_separated(args.split), plain=args.plain)
    clips = spread(found, args.limit)
    whisper, _ = load_hearing(settings)
    head = find_tone(settings.prosody.readout, whisper.fingerprint)
    if head is None:
        raise ConfigError(
            f"no readout is shipped for {settings.whisper.model}; train one: textpro train tone"
        )
    name = heard_with(settings, whisper)
    said = hear(clips, whisper, name=name, cache=args.cache)
    told = [
        figures(
            corpus,
            [o for o in said if o.clip.corpus == corpus and o.clip.emotion != PLAIN],
            head,
        )
        for corpus in dict.fromkeys(clip.corpus for clip in clips if clip.emotion != PLAIN)
    ]
    print(table(told))
    plain = [one for one in said if one.clip.emotion == PLAIN and len(one.states)]
    if plain:
        guesses = [reading_of(head, one).guess for one in plain]
        named = np.mean([guess != UNSURE for guess in guesses])
        print(f"\nPlain speech: {len(plain)} clips, an emotion named in {100 * named:.1f} %.")
    if args.json:
        args.json.write_text("".join(json.dumps(asdict(one)) + "\n" for one in told))
    return 0


def figures(corpus: str, said: Sequence[Said], head: ToneHead) -> Figures:
    """What the readout makes of one corpus' clips.

    The likeliest of the corpus' own labels is taken for the answer: it is not asked for others.
    """
    heard = [one for one in said if len(one.states)]
    if not heard:
        raise ConfigError(f"{corpus}: no words were heard in any clip")
    labels = [label for label in head.labels if any(o.clip.emotion == label for o in heard)]
    judged = [one for one in heard if one.clip.emotion in labels]
    if not judged:
        raise ConfigError(f"{corpus}: its labels are none of {', '.join(head.labels)}")
    true = np.array([labels.index(one.clip.emotion) for one in judged])
    readings = [reading_of(head, one) for one in judged]
    told = [reading.emotion for reading in readings]
    best = emotions_of(told, labels).argmax(1)
    guesses = [reading.guess for reading in readings]
    named = np.array([guess != UNSURE for guess in guesses])
    hits = np.array([g == one.clip.emotion for g, one in zip(guesses, judged, strict=True)])
    whole = emotions_of(told, head.labels)
    index = np.array([head.labels.index(one.clip.emotion) for one in judged])
    right = best == true
    speakers = np.unique([one.clip.speaker for one in judged], return_inverse=True)[1]
    low, high = interval(lambda some: float(right[some].mean()), speakers)
    tags = [
        reading.named == one.clip.emotion
        or (reading.named == TOLD_AGITATED and one.clip.emotion in AGITATED)
        for one, reading in zip(judged, readings, strict=True)
        if tag_of(reading)
    ]
    felt = [
        (reading.arousal > 0.5) == (one.clip.emotion in AGITATED)
        for one, reading in zip(judged, readings, strict=True)
        if one.clip.emotion in AGITATED | CALM and reading.arousal is not None
    ]
    n_felt = sum(one.clip.emotion in AGITATED | CALM for one in judged)
    return Figures(
        corpus=corpus,
        clips=len(judged),
        without_words=len(said) - len(heard),
        speakers=int(speakers.max()) + 1,
        labels=len(labels),
        right=float(right.mean()),
        low=low,
        high=high,
        recall=recall(best, true),
        commonest=float(np.bincount(true).max() / len(true)),
        named=float(named.mean()),
        named_right=float(hits[named].mean()) if named.any() else float("nan"),
        tagged=len(tags) / len(judged),
        tagged_right=float(np.mean(tags)) if tags else float("nan"),
        calibration=calibration_error(whole, index),
        aroused_right=float(np.mean(felt)) if felt else float("nan"),
        aroused_told=len(felt) / n_felt if n_felt else float("nan"),
    )


def reading_of(head: ToneHead, said: Said) -> ToneReading:
    """The tone of a clip, of a speaker of whom nothing is known."""
    state = said.mean()
    return ToneReading(head.arousal(state), None, None, None, None, head.emotion(state))


def table(found: Sequence[Figures]) -> str:
    """Figures as markdown."""
    lines = [
        "| corpus | clips (speakers) | emotion right of n labels [95 %] | mean recall | commonest"
        " | named: how many, right | tags: how many, right | calibration error"
        " | agitated or calm: told, right |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {f.corpus} | {f.clips} ({f.speakers}), {f.without_words} without words"
        f" | {100 * f.right:.1f} % of {f.labels} [{100 * f.low:.0f}-{100 * f.high:.0f}]"
        f" | {100 * f.recall:.1f} % | {100 * f.commonest:.1f} %"
        f" | {100 * f.named:.0f} %, {100 * f.named_right:.0f} %"
        f" | {100 * f.tagged:.0f} %, {100 * f.tagged_right:.0f} % | {f.calibration:.3f}"
        f" | {100 * f.aroused_told:.0f} %, {100 * f.aroused_right:.0f} % |"
        for f in found
    ]
    return "\n".join(lines)


def emotions_of(told: Sequence[dict[str, float]], labels: Sequence[str]) -> Floats:
    """Probabilities as rows (n, n_labels)."""
    return np.array([[one[label] for label in labels] for one in told], np.float64)


def recall(best: NDArray[np.int_], true: NDArray[np.int_]) -> float:
    """Mean over the labels of the share of each that was found."""
    return float(np.mean([(best[true == label] == label).mean() for label in np.unique(true)]))


def calibration_error(shares: Floats, true: NDArray[np.int_]) -> float:
    """By how much the likeliest label's probability is off from how often it is right.

    The mean over bins of equal width (Naeini et al., 2015).
    """
    sure, right = shares.max(1), shares.argmax(1) == true
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    return float(
        sum(
            abs(sure[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
    )
