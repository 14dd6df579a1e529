"""Clips as examples, a multinomial logistic regression on them, and held-out odds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textpro_stream.evaluate.prosody import Floats
from textpro_stream.evaluate.said import PLAIN, Said


def truth(said: Sequence[Said], labels: Sequence[str]) -> NDArray[np.int_]:
    """The label of each, plain speech last."""
    return np.array([[*labels, PLAIN].index(one.clip.emotion) for one in said])


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """What a fit sees; (n,) each but the numbers."""

    numbers: Floats  # (n, d)
    true: NDArray[np.int_]  # labels; the last is plain speech
    weights: Floats
    folds: NDArray[np.str_]  # "" where a clip is in every fit

    @staticmethod
    def of(said: Sequence[Said], labels: Sequence[str], folds: Mapping[str, str]) -> Examples:
        """Each clip and its windows; together they count as one clip, and the labels alike."""
        rows = [
            (one, group, 1 / len(groups))
            for one in said
            for groups in [one.groups()]
            for group in groups
        ]
        true = truth([one for one, _, _ in rows], labels)
        weights = np.array([weight for _, _, weight in rows])
        totals = np.bincount(true, weights=weights, minlength=len(labels) + 1)
        return Examples(
            np.stack([group for _, group, _ in rows]).astype(np.float64),
            true,
            weights / totals[true],
            np.array([folds.get(one.clip.id, "") for one, _, _ in rows]),
        )

    def without(self, fold: str) -> Examples:
        """All others."""
        kept = self.folds != fold
        return Examples(self.numbers[kept], self.true[kept], self.weights[kept], self.folds[kept])

    @property
    def n_labels(self) -> int:
        """Plain speech included."""
        return int(self.true.max()) + 1


def held_out(
    heard: Examples, said: Sequence[Said], numbers: Sequence[NDArray[np.float32]], ridge: float
) -> Floats:
    """Log odds of clips by readouts that have not heard their fold, (n, n_labels).

    The clips' examples come first in `heard`; those in no fold get no odds.
    """
    rows = np.stack(numbers).astype(np.float64)
    own = {}
    at = 0
    for one in said:
        own[one.clip.id] = heard.folds[at]
        at += len(one.groups())
    folds = np.array([own[one.clip.id] for one in said])
    odds = np.zeros((len(rows), heard.n_labels))
    for fold in sorted(set(folds) - {""}):
        weights, bias = fit_softmax(heard.without(fold), ridge)
        odds[folds == fold] = rows[folds == fold] @ weights.T + bias
    return odds


def fit_softmax(heard: Examples, ridge: float) -> tuple[Floats, Floats]:
    """Multinomial logistic regression: weights (n_labels, d) and biases, of plain numbers."""
    import torch
    import torch.nn.functional as F

    with torch.inference_mode(False), torch.enable_grad():
        mean, deviation = heard.numbers.mean(0), heard.numbers.std(0) + 1e-6
        x = torch.tensor((heard.numbers - mean) / deviation)
        true, share = torch.tensor(heard.true), torch.tensor(heard.weights / heard.weights.sum())
        w = torch.zeros(heard.n_labels, x.shape[1], dtype=x.dtype, requires_grad=True)
        b = torch.zeros(heard.n_labels, dtype=x.dtype, requires_grad=True)
        search = torch.optim.LBFGS([w, b], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            search.zero_grad()
            wrong = F.cross_entropy(x @ w.T + b, true, reduction="none") @ share
            total = wrong + ridge * w.square().sum()
            total.backward()  # type: ignore[no-untyped-call]  # torch's own
            return total

        search.step(loss)  # type: ignore[no-untyped-call]  # torch's own
        weights = w.detach().numpy() / deviation
        return weights, b.detach().numpy() - weights @ mean


def softmax(odds: Floats) -> Floats:
    """Shares of each row (n, k)."""
    shares = np.exp(odds - odds.max(1, keepdims=True))
    found: Floats = shares / shares.sum(1, keepdims=True)
    return found


def temperature(odds: Floats, true: NDArray[np.int_]) -> float:
    """By which odds of speakers not heard are divided to be as sure as they are right."""

    def surprise(warmth: float) -> float:
        return -float(np.log(softmax(odds / warmth)[np.arange(len(true)), true] + 1e-12).mean())

    return float(min(np.geomspace(0.2, 20, 200), key=surprise))
