"""Labelled speech as a projector is taught with it: words, prosody vectors, and what is said of it.

The vectors are those that a conversation makes rows of: pooled over groups of the LLM's tokens, as
`llm.fusion` arranges them. A label is a word: that of the manifest's emotion, and high or low,
loud or quiet, fast or slow, measured against the other clips of the speaker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from textpro_stream.contracts import AGITATED, TokenSpan
from textpro_stream.evaluate.said import Said
from textpro_stream.evaluate.tone_figures import NEUTRAL, WORDS
from textpro_stream.llm.fusion import AlignedText, Encode, FusionSpec, Row, Tone, rows_of
from textpro_stream.whisper.tokens import Tokens

CALM = WORDS["neutral"]
LABELS = tuple(sorted(set(WORDS) - {AGITATED}))  # that a manifest may name
ENOUGH = 4  # clips of a speaker from which his usual is taken
# Of a clip's acoustics: which of them, what is told above the speaker's usual and what below it,
# and how far it must be from it: semitones, dB, and a share of the pace.
MEASURED = {
    "pitch": (0, "high", "low", 1.5),
    "loudness": (3, "loud", "quiet", 3.0),
    "pace": (6, "fast", "slow", 0.15),
}
# The words of each attribute, in the order in which they are told apart
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "emotion": tuple(WORDS[label] for label in LABELS),
    **{name: (above, below) for name, (_, above, below, _) in MEASURED.items()},
}


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A clip in which words were heard."""

    said: Said
    spans: tuple[TokenSpan, ...]
    pooled: Tensor  # (n, d_prosody), n >= 1: what the prosody rows among its words are made from
    words: Mapping[str, str]  # attribute: the word that is true of it

    @property
    def is_neutral(self) -> bool:
        """Nothing is to be told of its tone; so of speech of which nobody named an emotion."""
        return self.said.clip.emotion in NEUTRAL

    @property
    def text(self) -> str:
        """As the recogniser heard it."""
        return "".join(span.text for span in self.spans).strip()

    def asked(self, question: str, encode: Encode, spec: FusionSpec) -> list[Row]:
        """The rows of its words with a question typed behind them.

        Args:
            question: begins with a space; "" for none.
            encode: the LLM's tokenizer.
            spec: how rows are arranged.
        """
        end = self.spans[-1].end
        typed = [TokenSpan((), f" {word}", end, end, 0.0, None) for word in question.split()]
        return rows_of(AlignedText.of((*self.spans, *typed), encode), spec, whole=True)


def utterances(
    said: Sequence[Said], tokens: Tokens, encode: Encode, spec: FusionSpec
) -> list[Utterance]:
    """Clips with words in them; the others are left out.

    Args:
        said: as the recogniser heard them.
        tokens: its vocabulary.
        encode: the LLM's tokenizer.
        spec: how rows are arranged.
    """
    usual = _usual(said)
    found = []
    for one in said:
        spans = spans_of(one, tokens.whole_characters, tokens.text)
        rows = rows_of(AlignedText.of(spans, encode), spec, whole=True)
        tones = [row.pooled() for row in rows if isinstance(row, Tone)]
        if tones:
            words = {**_measured(one, usual), **_named(one)}
            found.append(Utterance(one, spans, torch.stack(tones), words))
    return found


def spans_of(
    said: Said, sizes: Callable[[Sequence[int]], list[int]], text: Callable[[Sequence[int]], str]
) -> tuple[TokenSpan, ...]:
    """A clip's tokens as the recogniser would commit them, without times."""
    spans, at = [], 0
    for size in sizes(said.ids):
        ids = said.ids[at : at + size]
        states = torch.from_numpy(said.states[at : at + size])
        spans.append(TokenSpan(ids, text(ids), 0, 0, 0.0, states))
        at += size
    return tuple(spans)


def _named(said: Said) -> dict[str, str]:
    """Speech of which nobody named an emotion is taken for neutral."""
    label = said.clip.emotion
    word = CALM if label in NEUTRAL else WORDS.get(label)
    return {"emotion": word} if word else {}


def _usual(said: Sequence[Said]) -> dict[str, np.ndarray]:
    """Of speakers with clips enough, the median of each number."""
    by_speaker: dict[str, list[Said]] = {}
    for one in said:
        if one.acoustics.any():
            by_speaker.setdefault(one.clip.speaker, []).append(one)
    return {
        speaker: np.median([one.acoustics for one in some], axis=0)
        for speaker, some in by_speaker.items()
        if len(some) >= ENOUGH
    }


def _measured(said: Said, usual: Mapping[str, np.ndarray]) -> dict[str, str]:
    own = usual.get(said.clip.speaker)
    if own is None or not said.acoustics.any():
        return {}
    words = {}
    for name, (which, above, below, far) in MEASURED.items():
        off = float(said.acoustics[which] - own[which])
        if name == "pace":
            off /= max(float(own[which]), 0.1)
        if abs(off) > far:
            words[name] = above if off > 0 else below
    return words
