"""A recording of any length, with what is said in it: one file, or clips joined.

Nothing of it is held twice: what memory it takes does not grow with its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.manifest import Entry, read_entries
from textpro_stream.evaluate.mix import read_audio

CHUNK = 1600  # samples at a time; changes nothing
_JOIN_S = 0.5  # between two segments of one recording; more, and something was left out
PAUSE = SAMPLE_RATE  # samples of silence behind a clip: somebody else speaks next


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A stretch of sound."""

    samples: NDArray[np.float32]  # (n,) mono, 16 kHz
    text: str | None  # what is said; None: nobody knows


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Pieces one after the other, over and over where they are fewer than it is long."""

    pieces: Sequence[Piece]
    end: int  # samples
    text: str | None

    def chunks(self) -> Iterator[AudioChunk]:
        """All of it, in order."""
        at = 0
        while at < self.end:
            for piece in self.pieces:
                samples = piece.samples[: self.end - at]
                for begin in range(0, len(samples), CHUNK):
                    yield AudioChunk(samples[begin : begin + CHUNK], at + begin)
                at += len(samples)
                if at >= self.end:
                    break


def read_pieces(path: Path, kinds: frozenset[str] = frozenset()) -> list[Piece]:
    """What a recording is made of.

    Args:
        path: a sound file; or a manifest (.jsonl), whose clips are joined in its order. A clip
            with `segments` (start, end, text) is cut there, and no silence is put between.
        kinds: of the manifest's clips; empty: all.

    Raises:
        ConfigError: the manifest has faults; lists them by line.
        AudioFormatError: the file is no sound.
    """
    if path.suffix != ".jsonl":
        return [Piece(read_audio(path), None)]
    pieces: list[Piece] = []
    for _, entry in read_entries(path, needs=("text",), check=_wrong):
        if not kinds or entry.get("kind") in kinds:
            pieces += _cut(entry, read_audio(path.parent / entry["audio"]))
    if not pieces:
        raise ConfigError(f"manifest {path}: no clips" + f" of kind {sorted(kinds)}" * bool(kinds))
    return pieces


def record(pieces: Sequence[Piece], minutes: float) -> Recording:
    """So much of them, in whole pieces where it is known what is said in them."""
    limit = round(60 * minutes * SAMPLE_RATE)
    if any(piece.text is None for piece in pieces):
        return Recording(pieces, limit, None)
    end, texts = 0, list[str]()
    while True:
        for piece in pieces:
            if texts and end + len(piece.samples) > limit:
                return Recording(pieces, end, " ".join(texts))
            end += len(piece.samples)
            texts.append(piece.text or "")


def _wrong(entry: Entry) -> str:
    segments = entry.get("segments", [])
    if not isinstance(segments, list):
        return "segments is no list"
    for each in segments:
        right = isinstance(each, dict) and isinstance(each.get("text"), str)
        times = [each.get(name) for name in ("start", "end")] if right else []
        if not right or not all(isinstance(time, int | float) for time in times):
            return "a segment needs start, end and text"
        if not 0 <= each["start"] < each["end"]:
            return "a segment ends before it begins"
    return ""


def _cut(entry: Entry, samples: NDArray[np.float32]) -> list[Piece]:
    segments = entry.get("segments") or []
    if not _is_whole(segments, len(samples)):
        quiet = np.zeros(PAUSE, np.float32)
        return [Piece(np.concatenate([samples, quiet]), entry["text"])]
    bounds = [round(each["start"] * SAMPLE_RATE) for each in segments] + [len(samples)]
    return [
        Piece(samples[begin:end], each["text"])
        for each, begin, end in zip(segments, bounds[:-1], bounds[1:], strict=True)
    ]


def _is_whole(segments: Sequence[Entry], n: int) -> bool:
    """They follow on each other and cover a clip of n samples: nothing is lost by the cut."""
    ends = [0.0, *(each["end"] for each in segments)]
    starts = [*(each["start"] for each in segments), n / SAMPLE_RATE]
    return bool(segments) and all(
        abs(start - end) < _JOIN_S for start, end in zip(starts, ends, strict=True)
    )
