"""Speech to train on: manifests, whole clips in memory, and who is held out.

A manifest is JSONL, one clip a line: `id`, `audio` (a path beside it), and, where they are known,
`speaker`, `text`, `kind`, `language`, `licence`.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import ConfigError, TextproError
from textpro_stream.evaluate.manifest import Check, Entry, read_entries
from textpro_stream.evaluate.mix import read_audio


@dataclass(frozen=True, slots=True)
class Clip:
    """One line of a manifest."""

    id: str
    audio: Path
    speaker: str  # "" where the manifest names none
    text: str
    kind: str
    language: str
    licence: str
    line: int
    fields: Entry  # all that the line says


def read_clips(path: Path, *, check: Check = lambda entry: "") -> list[Clip]:
    """All clips of a manifest.

    Args:
        path: of the manifest.
        check: tells what else an objective finds wrong with a line; "" if nothing.

    Raises:
        ConfigError: the file cannot be read, or has faults; lists them by line.
    """
    names = ("speaker", "text", "kind", "language", "licence")
    clips = [
        Clip(
            entry["id"],
            path.parent / entry["audio"],
            **{name: str(entry.get(name) or "") for name in names},
            line=number,
            fields=entry,
        )
        for number, entry in read_entries(path, check=check)
    ]
    if not clips:
        raise ConfigError(f"manifest {path}: no clips; a line needs id and audio")
    return clips


def load_audio(clip: Clip, longest_s: float = 30.0) -> NDArray[np.int16]:
    """A clip, mono at 16 kHz, (n,); int16 halves what many of them take up.

    Args:
        clip: to read.
        longest_s: what is longer is cut.

    Raises:
        ConfigError: no audio; names the manifest's line.
    """
    try:
        samples = read_audio(clip.audio)
    except TextproError as error:
        raise ConfigError(f"line {clip.line}: {error}") from None
    samples = samples[: round(longest_s * SAMPLE_RATE)]
    return np.asarray(np.clip(samples * 32767.0, -32768, 32767), np.int16)


def as_float(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Full scale [-1, 1]."""
    return np.asarray(samples, np.float32) / np.float32(32767.0)


class Spoken(Protocol):
    """What is of somebody."""

    @property
    def speaker(self) -> str:
        """His name, "" where none is known."""
        ...


S = TypeVar("S", bound=Spoken)


def hold_out(
    clips: Sequence[S], share: float, always: Collection[str] = ()
) -> tuple[list[S], list[S]]:
    """Split by speakers: who is in the second list is nowhere in the first.

    By a checksum of the name, so the same speaker falls on the same side in every manifest.

    Args:
        clips: those without a speaker are trained on.
        share: of speakers to hold out.
        always: speakers to hold out whatever the checksum says.
    """

    def held(clip: S) -> bool:
        if clip.speaker in always:
            return True
        return bool(clip.speaker) and zlib.crc32(clip.speaker.encode()) % 1000 < 1000 * share

    return [c for c in clips if not held(c)], [c for c in clips if held(c)]
