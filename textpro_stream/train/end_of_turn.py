"""The end-of-turn head: a logistic regression on what a conversation knows at real pauses.

    textpro train end-of-turn --manifest pauses.jsonl --out runs/end-of-turn

Gives `end_of_turn.safetensors`, and `report.md` with what it is worth on speakers it has not seen.
The problem is convex and takes a second once the pauses are heard, so there is no schedule, and
nothing to go on with: what was heard is kept in the folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from textpro_stream.config import Settings, TurnOptions
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate import policies
from textpro_stream.evaluate.endpoint import tabulate
from textpro_stream.evaluate.evidence import (
    Asked,
    gather,
    heard_with,
    load_hearing,
    silences_of,
    tell_progress,
)
from textpro_stream.evaluate.manifest import comma_separated
from textpro_stream.evaluate.policies import MOMENTS_S, Floats
from textpro_stream.evaluate.turns import Turn, read_turns
from textpro_stream.train.harper_valley import write_manifest
from textpro_stream.train.regression import FOLDS, TALK, Examples, alike, cross_validate, fit
from textpro_stream.train.synthetic_turns import make_turns
from textpro_stream.turn.features import ENDING, MARK, NAMES
from textpro_stream.turn.head import Head, HeadWeights
from textpro_stream.whisper.blocks import Closing

BUDGETS = np.array([0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.9])
COMPONENTS = 16  # of encoder states, in the ablation
_FILE, _REPORT = "end_of_turn.safetensors", "report.md"
_HARPER_VALLEY = "harper_valley.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `textpro train end-of-turn`."""
    parser.add_argument("--manifest", type=Path, required=True, help="JSONL list of pauses")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--split", default="train", help="what is trained on; empty: everything")
    parser.add_argument(
        "--synthetic", type=int, default=150, help="requests read by espeak-ng beside it"
    )
    parser.add_argument(
        "--harper-valley", metavar="FOLDER", type=Path, help="that corpus, beside the manifest"
    )
    parser.add_argument("--ridge", type=float, default=100.0, help="how small weights are kept")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic requests")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Train; 0."""
    import torch

    turns = read_turns(args.manifest, splits=comma_separated(args.split))
    if args.harper_valley is not None:
        turns += read_turns(write_manifest(args.harper_valley, args.out / _HARPER_VALLEY))
    whisper, vad = load_hearing(settings)
    # Taught with the long silence, a head also judges better what the short one tells (note 0014).
    whisper.policy = replace(whisper.policy, closing=Closing())
    name = heard_with(settings, whisper)

    @torch.inference_mode()
    def hear(turns: Sequence[Turn], cache: str) -> list[Asked]:
        return gather(
            turns,
            whisper,
            vad,
            settings.turn,
            name=name,
            cache=args.out / cache,
            progress=tell_progress,
        )

    real = hear(turns, "real.npz")
    made: list[Asked] = []
    if args.synthetic:
        manifest = make_turns(args.out / "synthetic", args.synthetic, args.seed)
        made = hear(read_turns(manifest), "synthetic.npz")
    examples = Examples.of([*real, *(one for one in made if one.pause.split == "train")])
    weights, report = train(examples, settings.turn, args.ridge)
    weights.save(args.out / _FILE)
    held_out = [one for one in made if one.pause.split != "train"]
    if held_out:
        table = tabulate(held_out, settings.turn, head=Head(weights))
        report += f"\n## Synthetic requests in two voices that were kept apart\n\n{table}\n"
    (args.out / _REPORT).write_text(report, encoding="utf-8")
    print(report)
    print(args.out / _FILE)
    return 0


def train(examples: Examples, options: TurnOptions, ridge: float) -> tuple[HeadWeights, str]:
    """A head, and what it is worth where it was not trained, as a text.

    Args:
        examples: real ones, and synthetic ones if wanted; figures are of the real ones alone.
        options: bounds that hold while budgets are measured.
        ridge: penalty of squared weights, against a mean weight of 1 an example.

    Raises:
        ConfigError: ends or pauses of real talk are missing, or there is one speaker.
    """
    talk = np.isin(examples.kinds, TALK)
    for label, told in ((1.0, "ends"), (0.0, "holds")):
        if not (talk & (examples.ends == label)).any():
            raise ConfigError(f"no {told} of real talk to train on; give kinds {list(TALK)}")
    if len(set(examples.groups[talk])) < 2:
        raise ConfigError("all of one speaker: nothing would tell what it is worth for others")
    odds = cross_validate(examples, ridge)
    scale = fit(odds[talk, None], examples.ends[talk], alike(examples.of_kinds(talk)), 1e-6)
    weights = fit(examples.numbers, examples.ends, alike(examples), ridge)
    lengths = np.log(
        [
            one.pause.silence_s
            for one, keep in zip(examples.asked, talk, strict=True)
            if keep and one.pause.label == "hold"
        ]
    )
    hold = np.array([lengths.mean(), lengths.std()])
    found = HeadWeights(
        weights=weights[:-1] * scale[0],
        bias=weights[-1:] * scale[0] + scale[1:],
        hold=hold,
        budgets=BUDGETS,
        required=np.zeros(len(BUDGETS)),
    )
    unseen = _Unseen(found, examples.of_kinds(talk), odds[talk] * scale[0] + scale[1], options)
    found = HeadWeights(found.weights, found.bias, hold, BUDGETS, unseen.required())
    return found, unseen.report(found) + "\n" + ablations(examples, ridge)


def ablations(examples: Examples, ridge: float) -> str:
    """Which evidence carries it: AUC on speakers not seen, each part alone and left out."""
    talk = np.isin(examples.kinds, TALK)
    calls = examples.kinds == "dialogue"
    parts = {
        "recogniser's ending": [n for n, name in enumerate(NAMES) if name in ENDING],
        "mark": [n for n, name in enumerate(NAMES) if name in MARK],
        "words": [n for n, name in enumerate(NAMES) if name not in (*ENDING, *MARK)],
    }
    tried: dict[str, Floats] = {"all": examples.numbers}
    for name, columns in parts.items():
        tried[f"{name} alone"] = examples.numbers[:, columns]
        tried[f"without {name}"] = np.delete(examples.numbers, columns, 1)
    heard = _principal(examples)
    tried["encoder states alone"] = heard
    tried["all and encoder states"] = np.concatenate([examples.numbers, heard], 1)
    lines = ["| evidence | AUC | calls alone |", "|---|---|---|"]
    for name, numbers in tried.items():
        odds = cross_validate(replace(examples, numbers=numbers), ridge)
        figures = [
            policies.auc(odds[some], examples.ends[some] == 1.0) for some in (talk, talk & calls)
        ]
        lines.append(f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
    return "\n".join(lines) + "\n"


def _principal(examples: Examples) -> Floats:
    """Encoder states of the last 0.5 s by their principal components, (n, COMPONENTS)."""
    means = np.array(
        [
            one.turn.ending.states[-25:].mean(0)
            if one.turn.ending is not None and len(one.turn.ending.states)
            else np.zeros(1)
            for one in examples.asked
        ],
        np.float64,
    )
    centred = means - means.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    found: Floats = centred @ directions[:COMPONENTS].T
    return found


class _Unseen:
    """Real talk, judged by heads that had not heard its speakers."""

    def __init__(
        self, weights: HeadWeights, talk: Examples, odds: Floats, options: TurnOptions
    ) -> None:
        self._talk = talk
        self._least_s, self._most_s = options.silence_ms / 1000, options.silence_long_ms / 1000
        longer = [Head(weights).log_longer(round(s * SAMPLE_RATE)) for s in MOMENTS_S]
        self._p_end = 1 / (1 + np.exp(-(odds[:, None] - np.array(longer))))  # (n, m)
        self._silences = silences_of(talk.asked)

    def required(self) -> Floats:
        """For each budget the least P(end) that keeps to it, (k,)."""
        levels = np.unique(np.round(self._p_end, 4))
        cuts = np.array(
            [
                policies.cost(
                    policies.decide(self._p_end, level, self._least_s, self._most_s), self._silences
                ).cut
                for level in levels
            ]
        )
        return np.array(
            [levels[cuts <= budget].min() if (cuts <= budget).any() else 1.0 for budget in BUDGETS]
        )

    def report(self, weights: HeadWeights) -> str:
        """Figures as markdown."""
        ends = self._silences.ends
        lines = [
            "# End-of-turn head",
            "",
            f"{int(ends.sum())} ends and {int((~ends).sum())} holds of real talk,"
            f" {len(set(self._talk.groups))} speakers or calls; {FOLDS} folds, no speaker in two.",
            "",
            f"AUC on speakers not seen: {policies.auc(self._p_end[:, 0], ends):.3f}",
            "",
            "| budget of false cut-offs | P(end) required | mean wait |",
            "|---|---|---|",
        ]
        for budget, level in zip(weights.budgets, weights.required, strict=True):
            waits = policies.decide(self._p_end, level, self._least_s, self._most_s)
            wait_s = policies.cost(waits, self._silences).wait_s
            lines.append(f"| {100 * budget:g} % | {level:.3f} | {1000 * wait_s:.0f} ms |")
        lines += ["", "| feature | weight |", "|---|---|"]
        lines += [
            f"| {name} | {weight:+.3f} |"
            for name, weight in zip(NAMES, weights.weights, strict=True)
        ]
        return "\n".join(lines) + "\n"
