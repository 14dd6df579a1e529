"""The trained end-of-turn head: how likely is a pause the end, and how sure is enough?

A logistic regression over `features.py`. It tells an end from a pause as the pause begins; then the
silence speaks: few pauses of the same turn last long, so

    log odds of an end = weights x features + bias - log P(a pause is longer than this silence)

which is Bayes' rule with the lengths of real pauses (a log-normal). It knows nothing of audio and
keeps no state, so a recording replays to the same ends. Trained by `textpro train end-of-turn`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from textpro_stream.config import TurnOptions
from textpro_stream.contracts import OpenTurn, seconds
from textpro_stream.errors import WeightsError
from textpro_stream.turn.completeness import p_end_of_turn
from textpro_stream.turn.features import NAMES, features

SHIPPED = Path(__file__).parents[1] / "assets" / "adapters" / "end_of_turn.safetensors"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class HeadWeights:
    """All that training finds."""

    weights: Floats  # (len(NAMES),)
    bias: Floats  # (1,)
    hold: Floats  # (2,) of the logarithm of a pause's seconds: mean and deviation
    budgets: Floats  # (k,) rising shares of pauses that are taken for an end ...
    required: Floats  # (k,) ... and the P(end) from which a turn ends, for each

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(asdict(self), path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read one.

        Raises:
            WeightsError: no such file, or of other features than these.
        """
        try:
            tensors = load_file(path)
            found = cls(**{field.name: tensors[field.name] for field in fields(cls)})
        except Exception as error:  # safetensors' errors share no base class
            raise WeightsError(
                f"{path}: no end-of-turn head ({error}); without one: turn.end_of_turn=words",
                path=path,
            ) from None
        if found.weights.shape != (len(NAMES),):
            raise WeightsError(
                f"{path}: a head for {len(found.weights)} features, these are {len(NAMES)}; train"
                " it again with: textpro train end-of-turn",
                path=path,
            )
        return found


class Head:
    """An `EndOfTurn`. Shared, keeps nothing."""

    def __init__(self, weights: HeadWeights) -> None:
        self._weights = weights

    @classmethod
    def load(cls, path: Path = SHIPPED) -> Self:
        """See `HeadWeights.load`."""
        return cls(HeadWeights.load(path))

    def p_end(self, turn: OpenTurn, silence: int, /) -> float:
        """P(end of turn), were an end as likely as a pause before anything was known."""
        weights = self._weights
        numbers = features(turn)
        if numbers is None:  # another recogniser, or no words: what the words promise has to do
            promised = min(max(p_end_of_turn(turn.text), 0.01), 0.99)
            odds = math.log(promised / (1 - promised))
        else:
            odds = float(numbers @ weights.weights) + float(weights.bias[0])
        return 1 / (1 + math.exp(-odds + self.log_longer(silence)))

    def p_required(self, silence: int, options: TurnOptions, /) -> float:
        """What keeps within the budget of false cut-offs; the silence is in `p_end` already."""
        weights = self._weights
        return float(np.interp(options.false_cutoffs, weights.budgets, weights.required))

    def log_longer(self, silence: int) -> float:
        """Logarithm of the share of pauses that last longer."""
        mean, deviation = self._weights.hold
        over = (math.log(max(seconds(silence), 1e-3)) - mean) / deviation
        return math.log(max(0.5 * math.erfc(over / math.sqrt(2)), 1e-6))
