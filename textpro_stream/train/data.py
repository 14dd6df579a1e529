"""Speech to train on: manifests, whole clips in memory, and who is held out.

A manifest is JSONL, one clip a line: `id`, `audio` (a path beside it), and, where they are known,
`speaker`, `text`, `kind`, `language`, `licence`. All that is wrong with one is listed with line
numbers before anything starts.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import ConfigError, TextproError
from textpro_stream.evaluate.manifest import manifest_lines
from textpro_stream.evaluate.mix import read_audio

SHOWN = 20  # faults that are listed; more of one kind teach nothing


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
    fields: Mapping[str, Any]  # all that the line says


Check = Callable[[Mapping[str, Any]], str]


def read_clips(path: Path, *, check: Check = lambda entry: "") -> list[Clip]:
    """All clips of a manifest.

    Args:
        path: of the manifest.
        check: tells what else an objective finds wrong with a line; "" if nothing.

    Raises:
        ConfigError: the file cannot be read, or has faults; lists them by line.
    """
    clips: list[Clip] = []
    faults: list[str] = []
    seen: dict[str, int] = {}
    splits: dict[str, tuple[str, int]] = {}
    for number, line in manifest_lines(path):
        clip, wrong = _clip(path, number, line)
        if clip is not None:
            wrong = wrong or _repeated(clip, seen) or _in_two_splits(clip, splits)
            wrong = wrong or check(clip.fields)
            clips.append(clip)
        if wrong:
            faults.append(f"line {number}: {wrong}")
    if faults:
        told = "; ".join(faults[:SHOWN])
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ConfigError(f"manifest {path}: {told}{more}")
    if not clips:
        raise ConfigError(f"manifest {path}: no clips; a line needs id and audio")
    return clips


def _clip(path: Path, number: int, line: str) -> tuple[Clip | None, str]:
    try:
        entry = json.loads(line)
    except ValueError:
        return None, "not JSON"
    if not isinstance(entry, dict):
        return None, "not a JSON object"
    for name in ("id", "audio"):
        if not isinstance(entry.get(name), str) or not entry[name]:
            return None, f"no {name}"
    audio = path.parent / entry["audio"]
    wrong = "" if audio.is_file() else f"no file {entry['audio']}"
    told = {n: str(entry.get(n) or "") for n in ("speaker", "text", "kind", "language", "licence")}
    return Clip(entry["id"], audio, **told, line=number, fields=entry), wrong


def _repeated(clip: Clip, seen: dict[str, int]) -> str:
    first = seen.setdefault(clip.id, clip.line)
    return "" if first == clip.line else f"id {clip.id} is that of line {first}"


def _in_two_splits(clip: Clip, splits: dict[str, tuple[str, int]]) -> str:
    split = str(clip.fields.get("split") or "")
    if not split or not clip.speaker:
        return ""
    other, line = splits.setdefault(clip.speaker, (split, clip.line))
    return (
        ""
        if other == split
        else f"speaker {clip.speaker} is in split {split}, on line {line} in {other}"
    )


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


def hold_out(
    clips: Sequence[Clip], share: float, always: Collection[str] = ()
) -> tuple[list[Clip], list[Clip]]:
    """Split by speakers: who is in the second list is nowhere in the first.

    By a checksum of the name, so the same speaker falls on the same side in every manifest.

    Args:
        clips: those without a speaker are trained on.
        share: of speakers to hold out.
        always: speakers to hold out whatever the checksum says.
    """

    def held(clip: Clip) -> bool:
        if clip.speaker in always:
            return True
        return bool(clip.speaker) and zlib.crc32(clip.speaker.encode()) % 1000 < 1000 * share

    return [c for c in clips if not held(c)], [c for c in clips if held(c)]
