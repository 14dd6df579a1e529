"""Tone read off the recogniser's states by dot products: agitated or calm, and a guessed emotion.

    shares = softmax(W x mean state + b)       of each label, and of plain speech
    probability = the label's share + plain speech's share / labels

W is a logistic regression on acted speech, and on plain speech of many voices and microphones: what
sounds like that is told as no emotion in particular. Arousal is a second one; `arousal_trust` is
what is left of its sureness on other recordings. Knows nothing of words, and keeps nothing. Trained
by `textpro train tone`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from textpro_stream.errors import WeightsError

SHIPPED = Path(__file__).parents[1] / "assets" / "adapters"  # `tone*.safetensors`, one a model
FORMAT = "textpro-stream tone 1"
DOUBT = 0.1  # arousal nearer to a coin's 0.5 than this is told as unsure

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ToneWeights:
    """All that training finds."""

    labels: tuple[str, ...]
    emotion: Floats  # (n_labels + 1, d_prosody); the last is plain speech
    emotion_bias: Floats  # (n_labels + 1,)
    arousal: Floats  # (d_prosody,)
    arousal_bias: Floats  # (1,)
    arousal_trust: Floats  # (1,), 0 to 1
    recogniser: str  # whose states: `WhisperPro.fingerprint`

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        told = {"format": FORMAT, "labels": json.dumps(self.labels), "recogniser": self.recogniser}
        tensors = {name: getattr(self, name) for name in _TENSORS}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path, metadata=told)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read one.

        Raises:
            WeightsError: no such file, or none of these.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                told = file.metadata() or {}
                labels = tuple(map(str, json.loads(told["labels"])))
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
                return cls(labels, **tensors, recogniser=told["recogniser"])
        except Exception as error:  # safetensors' errors share no base class
            raise WeightsError(
                f"{path}: no tone readout ({error}); train one with: textpro train tone, or do"
                " without: prosody.tone=false",
                path=path,
            ) from None


_TENSORS = ("emotion", "emotion_bias", "arousal", "arousal_bias", "arousal_trust")


class ToneHead:
    """A readout. Shared, keeps nothing."""

    def __init__(self, weights: ToneWeights) -> None:
        self._weights = weights

    @property
    def labels(self) -> tuple[str, ...]:
        """Of emotions."""
        return self._weights.labels

    def arousal(self, state: Floats) -> float | None:
        """Probability of an agitated voice, None where it might as well be a calm one.

        Args:
            state: mean of some tokens' states, (d_prosody,).
        """
        odds = float(self._weights.arousal @ state + self._weights.arousal_bias[0])
        trust = float(self._weights.arousal_trust[0])
        probability = trust / (1 + math.exp(-min(max(odds, -30.0), 30.0))) + (1 - trust) / 2
        return None if abs(probability - 0.5) < DOUBT else probability

    def emotion(self, state: Floats) -> dict[str, float]:
        """Each label's probability; see `arousal`."""
        weights = self._weights
        odds = (weights.emotion @ state + weights.emotion_bias).astype(np.float64)
        shares = np.exp(odds - odds.max())
        shares /= shares.sum()
        told = shares[:-1] + shares[-1] / len(weights.labels)
        return dict(zip(weights.labels, told.tolist(), strict=True))


def find_tone(name: str, recogniser: str) -> ToneHead | None:
    """The readout that an option names.

    Args:
        name: `auto`, or a file made by `textpro train tone`.
        recogniser: `WhisperPro.fingerprint` of the model whose states are read.

    Returns:
        None if `auto` finds none for this model: pitch, loudness and pace are measured all the
        same.

    Raises:
        WeightsError: a file that is none, or one of another recogniser.
    """
    if name == "auto":
        shipped = (ToneWeights.load(path) for path in sorted(SHIPPED.glob("tone*.safetensors")))
        found = next((one for one in shipped if one.recogniser == recogniser), None)
        return ToneHead(found) if found else None
    weights = ToneWeights.load(Path(name))
    if weights.recogniser != recogniser:
        raise WeightsError(
            f"{name}: reads another recogniser's states (whisper.model or whisper.prosody differs);"
            " train it again with: textpro train tone",
            path=name,
        )
    return ToneHead(weights)
