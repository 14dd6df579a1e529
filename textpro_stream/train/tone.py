"""The tone readout: emotion and arousal read off the recogniser's states.

    textpro train tone --manifest acted.jsonl --out runs/tone

Gives `tone.safetensors`, for `[prosody] readout`, and `report.md` with what it is worth for
speakers it has not heard, beside the commonest label, the words alone and acoustics alone. Lines
without an emotion are plain speech, which is told apart from all of them. With several corpora of
emotions in the manifest each one is also read by a readout of the others. The problem is
convex and takes seconds once the clips are heard; what was heard is kept in the folder.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.evidence import heard_with, load_hearing
from textpro_stream.evaluate.manifest import comma_separated
from textpro_stream.evaluate.prosody import (
    AGITATED,
    CALM,
    Floats,
    calibration_error,
)
from textpro_stream.evaluate.said import GROUP, PLAIN, Said, hear, read_labelled
from textpro_stream.prosody.tone import ToneWeights
from textpro_stream.train.augment import Augmentation, augment
from textpro_stream.train.regression import fit
from textpro_stream.train.tone_examples import (
    Examples,
    fit_softmax,
    held_out,
    softmax,
    temperature,
    truth,
)
from textpro_stream.train.tone_report import ToneReport

_FILE, _REPORT = "tone.safetensors", "report.md"
AROUSED_ACROSS = 0.8  # measured on another corpus: docs/notes/0013-prosody-vector.md
FOLDS = 10  # of speakers, at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro train tone`."""
    parser.add_argument(
        "--manifest", type=Path, required=True, help="JSONL: id, audio, speaker, emotion"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--split", default="", help="what is trained on; empty: everything")
    parser.add_argument(
        "--plain", type=int, default=200, help="clips without an emotion that are told apart"
    )
    parser.add_argument(
        "--copies", type=int, default=1, help="of each clip in another room and microphone"
    )
    parser.add_argument("--ridge", type=float, default=0.01, help="how small weights are kept")
    parser.add_argument(
        "--aroused-across",
        type=float,
        default=AROUSED_ACROSS,
        help="share of agitated and calm that is right on other recordings",
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Train; 0."""
    clips = read_labelled(args.manifest, comma_separated(args.split), plain=args.plain)
    whisper, _ = load_hearing(settings)
    name = heard_with(settings, whisper)
    said = [hear(clips, whisper, name=name, cache=args.out / "heard.npz")]
    for copy in range(1, args.copies + 1):

        def change(samples: NDArray[np.float32], seed: int = copy) -> NDArray[np.float32]:
            drawn = zlib.crc32(samples.tobytes()) + seed
            return augment(samples, Augmentation(), (), np.random.default_rng(drawn))

        cache = args.out / f"heard_{copy}.npz"
        said.append(hear(clips, whisper, name=f"{name} {copy}", cache=cache, change=change))
    weights, report = train(
        said,
        args.ridge,
        whisper.fingerprint,
        aroused_across=args.aroused_across,
    )
    weights.save(args.out / _FILE)
    (args.out / _REPORT).write_text(report, encoding="utf-8")
    print(report)
    print(args.out / _FILE)
    return 0


def train(
    said: Sequence[Sequence[Said]],
    ridge: float,
    recogniser: str,
    *,
    aroused_across: float = AROUSED_ACROSS,
) -> tuple[ToneWeights, str]:
    """A readout, and what it is worth where it was not trained, as a text.

    Args:
        said: the clips as they are, then copies of them that were changed.
        ridge: penalty of squared weights, against a mean loss.
        recogniser: whose states these are.
        aroused_across: share of agitated and calm that is right on other recordings.

    Raises:
        ConfigError: one speaker or one label, or no plain speech to tell emotions from.
    """
    plain = [one for one in said[0] if len(one.states)]
    copies = [one for some in said[1:] for one in some if len(one.states)]
    felt = [one for one in plain if one.clip.emotion != PLAIN]
    labels = tuple(sorted({one.clip.emotion for one in felt}))
    if len({one.clip.speaker for one in felt}) < 2 or len(labels) < 2:
        raise ConfigError("one speaker or one emotion alone: give clips of two or more of each")
    if len(felt) == len(plain):
        raise ConfigError("no plain speech: give lines without an emotion too, of many speakers")
    folds = _folds(plain)
    heard = Examples.of([*plain, *copies], labels, folds)
    odds = held_out(heard, plain, [one.mean() for one in plain], ridge)
    warmth = temperature(odds, truth(plain, labels))
    weights = _weights(plain, copies, labels, heard, warmth, ridge, recogniser, aroused_across)
    report = ToneReport(plain, felt, labels, len(said[0]))
    report.row("states, whole clip", odds)
    first = [one.mean(GROUP) for one in plain]
    report.row("states, first five tokens", held_out(heard, plain, first, ridge))
    for name, numbers in (
        ("acoustics alone", [one.acoustics for one in plain]),
        ("words alone", _bags(plain)),
    ):
        alone = [
            replace(one, states=row[None].astype(np.float32))
            for one, row in zip(plain, numbers, strict=True)
        ]
        report.row(name, held_out(Examples.of(alone, labels, folds), alone, numbers, ridge))
    corpora = {one.clip.corpus for one in felt}
    if len(corpora) > 1:
        by_corpus = {one.clip.id: one.clip.corpus for one in plain if one.clip.emotion != PLAIN}
        apart = Examples.of([*plain, *copies], labels, by_corpus)
        whole = [one.mean() for one in plain]
        report.row("states, corpus not heard", held_out(apart, plain, whole, ridge))
    return weights[0], report.text(softmax(odds / warmth), weights[1])


def _folds(said: Sequence[Said]) -> dict[str, str]:
    """The fold of each clip by its id: speakers are never in two."""
    felt = sorted({one.clip.speaker for one in said if one.clip.emotion != PLAIN})
    speakers = sorted({one.clip.speaker for one in said} - set(felt))
    number = {name: str(i % FOLDS) for names in (felt, speakers) for i, name in enumerate(names)}
    return {one.clip.id: number[one.clip.speaker] for one in said}


def _weights(
    plain: Sequence[Said],
    copies: Sequence[Said],
    labels: tuple[str, ...],
    heard: Examples,
    warmth: float,
    ridge: float,
    recogniser: str,
    aroused_across: float,
) -> tuple[ToneWeights, str]:
    """All that is written, and a line about arousal."""
    agitated, odds, aroused = _arousal(plain, copies, ridge)
    scale = fit(odds[:, None], aroused, np.ones(len(aroused)), 1e-6)
    p_aroused = 1 / (1 + np.exp(-(odds * scale[0] + scale[1])))
    right = float(((p_aroused > 0.5) == (aroused > 0.5)).mean())
    trust = float(np.clip((aroused_across - 0.5) / max(right - 0.5, 1e-6), 0.0, 1.0))
    off = calibration_error(np.stack([1 - p_aroused, p_aroused], 1), aroused.astype(int))
    emotion, bias = fit_softmax(heard, ridge)
    weights = ToneWeights(
        labels,
        emotion=(emotion / warmth).astype(np.float32),
        emotion_bias=(bias / warmth).astype(np.float32),
        arousal=(agitated[:-1] * scale[0]).astype(np.float32),
        arousal_bias=np.array([agitated[-1] * scale[0] + scale[1]], np.float32),
        arousal_trust=np.array([trust], np.float32),
        recogniser=recogniser,
    )
    return weights, (
        f"Arousal (agitated against calm): {100 * right:.1f} % of {len(aroused)} right, calibration"
        f" error {off:.3f} before trust. Trust {trust:.2f}, for {100 * aroused_across:.0f} % right"
        " on other recordings."
    )


def _arousal(
    plain: Sequence[Said], copies: Sequence[Said], ridge: float
) -> tuple[Floats, Floats, Floats]:
    """Weights and, last, the bias (d + 1,); held-out log odds, and truth, of clips that have it."""
    known = AGITATED | CALM
    chosen = [one for one in plain if one.clip.emotion in known]
    changed = [one for one in copies if one.clip.emotion in known]
    renamed = [
        replace(one, clip=replace(one.clip, emotion=str(one.clip.emotion in AGITATED)))
        for one in (*chosen, *changed)
    ]
    heard = Examples.of(renamed, ("False", "True"), _folds(chosen))
    true = heard.true.astype(np.float64)
    weights = heard.weights / heard.weights.mean()
    penalty = ridge * len(true)
    states = np.stack([one.mean() for one in chosen]).astype(np.float64)
    folds = np.array([_folds(chosen)[one.clip.id] for one in chosen])
    odds = np.zeros(len(states))
    for fold in sorted(set(folds)):
        inside = heard.folds != fold
        found = fit(heard.numbers[inside], true[inside], weights[inside], penalty)
        odds[folds == fold] = states[folds == fold] @ found[:-1] + found[-1]
    told = np.array([float(one.clip.emotion in AGITATED) for one in chosen])
    return fit(heard.numbers, true, weights, penalty), odds, told


def _bags(plain: Sequence[Said]) -> list[NDArray[np.float32]]:
    """Which tokens each clip has, among those that occur twice or more."""
    counts: dict[int, int] = {}
    for one in plain:
        for token in set(one.ids):
            counts[token] = counts.get(token, 0) + 1
    kept = [token for token, n in counts.items() if n > 1] or [-1]
    return [np.array([token in one.ids for token in kept], np.float32) for one in plain]
