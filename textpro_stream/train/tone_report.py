"""What a tone readout is worth for speakers that it has not heard, as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textpro_stream.contracts import NAMED
from textpro_stream.evaluate.prosody import Floats, calibration_error, recall
from textpro_stream.evaluate.said import PLAIN, Said
from textpro_stream.train.tone_examples import truth


class ToneReport:
    """What held-out speakers show, as text.

    Args:
        plain: clips with words, unchanged; rows of odds are theirs.
        felt: those of them that have an emotion.
        labels: of emotions.
        n_clips: with and without words.
    """

    def __init__(
        self, plain: Sequence[Said], felt: Sequence[Said], labels: Sequence[str], n_clips: int
    ) -> None:
        self._felt = np.array([one.clip.emotion != PLAIN for one in plain])
        self._true = truth(felt, labels)
        self._n_labels = len(labels)
        speakers = len({one.clip.speaker for one in felt})
        corpora = len({one.clip.corpus for one in felt})
        common = np.bincount(self._true).max() / len(self._true)
        self._lines = [
            "# Tone readout",
            "",
            f"{len(felt)} clips with an emotion, {speakers} speakers, {len(labels)} labels,"
            f" {corpora} corpora; {len(plain) - len(felt)} of plain speech;"
            f" {n_clips - len(plain)} without words are left out. Figures are for speakers not"
            " heard.",
            "",
            "| emotion, read from | right | mean recall |",
            "|---|---|---|",
            f"| the commonest label | {100 * common:.1f} % | {100 / len(labels):.1f} % |",
        ]

    def row(self, name: str, odds: Floats) -> None:
        """Odds (n, n_labels + 1) of clips: the likeliest emotion counts, plain speech apart."""
        best = odds[self._felt, : self._n_labels].argmax(1)
        right = (best == self._true).mean()
        self._lines.append(
            f"| {name} | {100 * right:.1f} % | {100 * recall(best, self._true):.1f} % |"
        )

    def text(self, shares: Floats, arousal: str) -> str:
        """All of it.

        Args:
            shares: (n, n_labels + 1), plain speech last.
            arousal: a line.
        """
        told = shares[:, :-1] + shares[:, -1:] / self._n_labels
        named = told.max(1) >= NAMED
        hits = told[self._felt].argmax(1) == self._true
        off = calibration_error(told[self._felt], self._true)
        lines = [
            "",
            f"Named: {100 * named[self._felt].mean():.1f} % of the clips with an emotion,"
            f" {100 * hits[named[self._felt]].mean():.1f} % of them rightly;"
            f" {100 * named[~self._felt].mean():.1f} % of plain speech."
            f" Calibration error {off:.3f}.",
            "",
            arousal,
        ]
        return "\n".join([*self._lines, *lines]) + "\n"
