"""Manifests: JSONL, one item a line with `id`, `audio` (beside the manifest) and `text`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from textpro_stream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Item:
    """One clip and what is said in it."""

    id: str
    audio: Path
    text: str
    kind: str  # read, command, dialogue …; "" where the manifest names none
    duration_s: float
    speech_end_s: float | None = None  # of the last word, where somebody labelled it


def read_manifest(path: Path, kinds: frozenset[str] = frozenset(), limit: int = 0) -> list[Item]:
    """The items of a manifest.

    Args:
        path: the JSONL file.
        kinds: keep only these; empty keeps all.
        limit: keep so many, spread evenly over the file; 0 keeps all.

    Raises:
        ConfigError: the file is missing, or a line of it is no item; names the line.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise ConfigError(f"manifest {path}: {error.strerror}; give a JSONL file") from None
    items: list[Item] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
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
    if 0 < limit < len(items):
        items = [items[i * len(items) // limit] for i in range(limit)]
    return items


def _optional(value: object) -> float | None:
    return None if value is None else float(str(value))
