"""Manifests: JSONL, one item a line with `id`, `audio` (beside the manifest) and `text`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from textpro_stream.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item:
    """One clip and what is said in it."""

    id: str
    audio: Path
    text: str
    kind: str  # read, command, dialogue …; "" where the manifest names none
    duration_s: float
    speech_end_s: float | None = None  # of the last word, where somebody labelled it


def manifest_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a JSONL file that hold something, each with its number.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"manifest {path}: {error.strerror}; give a JSONL file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"manifest {path}: not UTF-8 text; give a JSONL file") from None
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def comma_separated(text: str) -> frozenset[str]:
    """The names in a flag like `--kinds command,question`; none in an empty one."""
    return frozenset(filter(None, text.split(",")))


def spread(items: Sequence[T], n: int) -> list[T]:
    """So many, evenly over all of them; 0 keeps all."""
    if not 0 < n < len(items):
        return list(items)
    return [items[i * len(items) // n] for i in range(n)]


def read_manifest(path: Path, kinds: frozenset[str] = frozenset(), limit: int = 0) -> list[Item]:
    """The items of a manifest.

    Args:
        path: the JSONL file.
        kinds: keep only these; empty keeps all.
        limit: keep so many, spread evenly over the file; 0 keeps all.

    Raises:
        ConfigError: the file is missing, or a line of it is no item; names the line.
    """
    items: list[Item] = []
    for number, line in manifest_lines(path):
        try:
            entry = json.loads(line)
            item = Item(
                id=str(entry["id"]),
                audio=path.parent / entry["audio"],
                text=str(entry["text"]),
                kind=str(entry.get("kind", "")),
                duration_s=float(entry.get("duration", 0.0)),
                speech_end_s=_optional(entry.get("speech_end_s")),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{path}:{number}: not a manifest item ({error}); a line needs id, audio and text"
            ) from None
        if not kinds or item.kind in kinds:
            items.append(item)
    if not items:
        raise ConfigError(
            f"manifest {path}: no items" + (f" of kind {sorted(kinds)}" * bool(kinds))
        )
    return spread(items, limit)


def _optional(value: object) -> float | None:
    return None if value is None else float(str(value))
