"""Sums over clips: word errors, lag, work and cost of one way of recognising."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textpro_stream.evaluate.bootstrap import interval
from textpro_stream.evaluate.manifest import Item
from textpro_stream.evaluate.reference import Reference
from textpro_stream.evaluate.score import Errors, Summary, errors, lags
from textpro_stream.evaluate.ways import Recognized
from textpro_stream.whisper import Work


@dataclass(slots=True)
class Tally:
    """All clips of one way."""

    errors: Errors = field(default_factory=Errors)
    by_kind: defaultdict[str, Errors] = field(default_factory=lambda: defaultdict(Errors))
    lags_s: list[float] = field(default_factory=list)
    blocks_s: list[float] = field(default_factory=list)
    erased: int = 0
    revised: int = 0
    n_words: int = 0  # committed
    audio_s: float = 0.0
    cpu_s: float = 0.0
    busy_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    work: Work = field(default_factory=Work)

    def add(
        self, item: Item, heard: Recognized, audio_s: float, reference: Reference | None = None
    ) -> None:
        """Count a clip.

        Args:
            item: with what was said.
            heard: what was recognised.
            audio_s: length of the clip.
            reference: with word ends, for lag; None leaves lag out.
        """
        found = errors(item.text, heard.text)
        self.errors += found
        self.by_kind[item.kind] += found
        self.audio_s += audio_s
        self.cpu_s += heard.cpu_s
        self.blocks_s += heard.blocks_s
        self.erased += heard.erased
        self.revised += heard.revised
        self.n_words += len(heard.words)
        for name, busy in heard.busy_s.items():
            self.busy_s[name] += busy
        for counter in fields(Work):
            total = getattr(self.work, counter.name) + getattr(heard.work, counter.name)
            setattr(self.work, counter.name, total)
        if reference is not None:
            self.lags_s += lags(heard.words, reference.words)

    def words_line(self) -> str:
        """How many words are wrong."""
        e = self.errors
        return (
            f"WER {e.wer:5.2f} % (S {e.substitutions} D {e.deletions} I {e.insertions}"
            f" of {e.words})"
        )

    def line(self) -> str:
        """The figures of a streaming way on one line."""
        lag, w = Summary.of(self.lags_s), self.work
        heard = max(1, w.positions_heard)
        return (
            f"{self.words_line()}  lag mean {lag.mean:.2f} median {lag.p50:.2f} p95 {lag.p95:.2f} s"
            f" (n {lag.n})"
            f"  committed words revised {self.revised},"
            f" tail words erased per word {self.erased / max(1, self.n_words):.2f}"
            f"  CPU s per audio s {self.cpu_s / self.audio_s:.3f}"
            f" (busy: {self._busy()})"
            f"  frames final/provisional per frame {w.positions_final / heard:.2f}"
            f"/{w.positions_provisional / heard:.2f}"
            f"  decoder passes per token {w.decoder_passes / max(1, w.tokens_committed):.2f}"
        )

    def _busy(self) -> str:
        found = (
            f"{name} {busy / self.audio_s:.3f}" for name, busy in self.busy_s.items() if busy > 0
        )
        return ", ".join(found)

    def figures(self) -> dict[str, Any]:
        """The same for a JSON file."""
        return {
            "wer": self.errors.wer,
            "errors": asdict(self.errors),
            "lag_s": asdict(Summary.of(self.lags_s)),
            "cpu_per_audio_s": self.cpu_s / self.audio_s,
            "busy_per_audio_s": {k: v / self.audio_s for k, v in self.busy_s.items()},
            "revised": self.revised,
            "erased": self.erased,
            "work": asdict(self.work),
        }


def points_interval(pairs: Sequence[tuple[Errors, Errors]]) -> tuple[float, float]:
    """How far chance in the choice of clips may move a difference of two WERs, in points.

    Args:
        pairs: for each clip its errors, one way and the other.

    Returns:
        The middle 95 % of second minus first.
    """

    def wrong(e: Errors) -> int:
        return e.substitutions + e.deletions + e.insertions

    more = np.array([wrong(b) - wrong(a) for a, b in pairs])
    words = np.array([a.words for a, _ in pairs])

    def points(drawn: NDArray[np.int_]) -> float:
        return float(100 * more[drawn].sum() / max(1, words[drawn].sum()))

    return interval(points, np.arange(len(pairs)), draws=2000)
