"""Words right and wrong, and how late they came: pure functions over texts and times."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import jiwer
import numpy as np
from whisper_normalizer.english import EnglishTextNormalizer

from textpro_stream.contracts import bare_word


@lru_cache(maxsize=1)
def _normalizer() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


def normalise_text(text: str) -> str:
    """Whisper's English normaliser (Radford et al., 2022, appendix C)."""
    return str(_normalizer()(text))


@dataclass(frozen=True, slots=True)
class Errors:
    """Word errors against a reference; adds up over clips."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0  # of the reference

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )

    @property
    def wer(self) -> float:
        """Word error rate in percent."""
        wrong = self.substitutions + self.deletions + self.insertions
        return 100.0 * wrong / max(1, self.words)


def errors(reference: str, hypothesis: str) -> Errors:
    """Word errors after normalising both."""
    expected, found = normalise_text(reference), normalise_text(hypothesis)
    if not expected:
        return Errors(insertions=len(found.split()))
    result = jiwer.process_words(expected, found)
    return Errors(result.substitutions, result.deletions, result.insertions, len(expected.split()))


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and a moment that belongs to it."""

    text: str
    at_s: float


def lags(committed: Sequence[TimedWord], spoken: Sequence[TimedWord]) -> list[float]:
    """Seconds from a word's end in `spoken` to its commit, for the words in both."""
    left = [(bare_word(word.text), word.at_s) for word in committed if bare_word(word.text)]
    right = [(bare_word(word.text), word.at_s) for word in spoken if bare_word(word.text)]
    matcher = difflib.SequenceMatcher(
        None, [word for word, _ in left], [word for word, _ in right], autojunk=False
    )
    return [
        left[block.a + i][1] - right[block.b + i][1]
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    ]


@dataclass(frozen=True, slots=True)
class Summary:
    """A distribution in five numbers."""

    n: int
    mean: float
    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Summarise; all zero where there is nothing."""
        if not values:
            return cls(0, 0.0, 0.0, 0.0, 0.0)
        array = np.asarray(values)
        return cls(
            len(array),
            float(array.mean()),
            float(np.percentile(array, 50)),
            float(np.percentile(array, 95)),
            float(array.max()),
        )
