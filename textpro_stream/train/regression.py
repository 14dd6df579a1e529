"""A logistic regression on pauses: examples as numbers, how they weigh, the fit, held-out folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textpro_stream.evaluate.evidence import Asked
from textpro_stream.evaluate.policies import Floats
from textpro_stream.train.synthetic_turns import SYNTHETIC
from textpro_stream.turn.features import NAMES, features

FOLDS = 8
TALK = ("assistant", "dialogue")  # kinds whose pauses a conversation meets
SHARE = 0.3  # of synthetic examples, in weight, against real ones


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Pauses as numbers; (n,) each but `numbers`."""

    asked: Sequence[Asked]
    numbers: Floats  # (n, len(NAMES))
    ends: Floats  # 1 or 0
    kinds: NDArray[np.str_]
    groups: NDArray[np.str_]  # never in two folds

    @staticmethod
    def of(asked: Sequence[Asked]) -> Examples:
        """All that can be trained on: no backchannels, no complete sentences that are read."""
        kept = [
            (one, numbers)
            for one in asked
            if one.pause.judged and (numbers := features(one.turn)) is not None
        ]
        speakers: dict[Path, set[str]] = {}
        for one, _ in kept:
            speakers.setdefault(one.audio, set()).add(one.pause.speaker)
        return Examples(
            [one for one, _ in kept],
            np.array([numbers for _, numbers in kept]).reshape(len(kept), len(NAMES)),
            np.array([float(one.pause.label == "end") for one, _ in kept]),
            np.array([one.pause.kind for one, _ in kept], str),
            # Both sides of a call are one group: they speak about the same things.
            np.array(
                [
                    one.pause.speaker if len(speakers[one.audio]) == 1 else one.audio.name
                    for one, _ in kept
                ],
                str,
            ),
        )

    def of_kinds(self, chosen: NDArray[np.bool_]) -> Examples:
        """Some of them."""
        asked = [one for one, keep in zip(self.asked, chosen, strict=True) if keep]
        return Examples(
            asked, self.numbers[chosen], self.ends[chosen], self.kinds[chosen], self.groups[chosen]
        )


def cross_validate(examples: Examples, ridge: float) -> Floats:
    """Log odds of each example by a head that has not heard its speaker, (n,)."""
    names = sorted(set(examples.groups))
    fold = {name: i % FOLDS for i, name in enumerate(names)}
    folds = np.array([fold[name] for name in examples.groups])
    odds = np.zeros(len(folds))
    for held in range(FOLDS):
        inside, outside = folds != held, folds == held
        if outside.any() and inside.any():
            some = examples.of_kinds(inside)
            weights = fit(some.numbers, some.ends, alike(some), ridge)
            odds[outside] = examples.numbers[outside] @ weights[:-1] + weights[-1]
    return odds


def alike(examples: Examples) -> Floats:
    """Weights that let ends and pauses count the same within each kind, and the kinds too, (n,).

    Else the kind would be the label: readers go on. Orders and calls are one kind, talk: alone, the
    few pauses inside orders, most too short to be taken for an end, would weigh as much as their
    many ends. Synthetic kinds together count a share of the real ones: they teach numbers, names
    and lists, and nothing about voices.
    """
    weights = np.zeros(len(examples.ends))
    kinds = np.where(np.isin(examples.kinds, TALK), "talk", examples.kinds)
    for kind in set(kinds):
        for label in (0.0, 1.0):
            those = (kinds == kind) & (examples.ends == label)
            if those.any():
                weights[those] = 1 / those.sum()
    synthetic = np.char.startswith(examples.kinds, SYNTHETIC)
    if synthetic.any() and not synthetic.all():
        weights[synthetic] *= SHARE * weights[~synthetic].sum() / weights[synthetic].sum()
    scaled: Floats = weights / weights.mean()
    return scaled


def fit(numbers: Floats, ends: Floats, weights: Floats, ridge: float) -> Floats:
    """Logistic regression by Newton's method: weights and, last, the bias, (d + 1,)."""
    mean = np.average(numbers, axis=0, weights=weights)
    deviation = np.sqrt(np.average((numbers - mean) ** 2, axis=0, weights=weights)) + 1e-6
    scaled = np.concatenate([(numbers - mean) / deviation, np.ones((len(numbers), 1))], 1)
    penalty = np.diag([*[ridge] * numbers.shape[1], 1e-6])
    found = np.zeros(scaled.shape[1])
    for _ in range(50):
        p_end = 1 / (1 + np.exp(-scaled @ found))
        slope = scaled.T @ (weights * (p_end - ends)) + penalty @ found
        bend = (scaled * (weights * p_end * (1 - p_end))[:, None]).T @ scaled + penalty
        step = np.linalg.solve(bend, slope)
        found -= step
        if np.abs(step).max() < 1e-9:
            break
    plain = found[:-1] / deviation
    return np.concatenate([plain, found[-1:] - plain @ mean])
