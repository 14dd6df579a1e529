"""Manifests: JSONL, one item a line; all that is wrong with one is told before anything starts.

Every reader of manifests takes its lines from `read_entries`, which reads no more of a sound file
than its header, and says of all lines at once what cannot be used and why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from textpro_stream.errors import AudioFormatError, ConfigError

T = TypeVar("T")
Entry = Mapping[str, Any]  # what a line says
Check = Callable[[Entry], str]  # what else is wrong with it; "" if nothing
Sound = Literal["needed", "optional", "none"]

SHOWN = 20  # faults that are listed; more of one kind teach nothing
LOWEST_HZ = 8000  # a telephone's; below it consonants are missing
# By how much a file's length may differ from the `duration` of its line. A file written with the
# wrong rate in its header plays too fast or too slow: 44.1 kHz as 48 kHz is 9 % off.
_OFF, _OFF_S = 0.05, 0.3


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


def read_entries(
    path: Path,
    *,
    sound: Sound = "needed",
    needs: Sequence[str] = (),
    labels: Mapping[str, Sequence[str]] | None = None,
    counts: Callable[[Entry], bool] = lambda entry: True,
    check: Check = lambda entry: "",
    translate: Callable[[int, Entry], Entry] = lambda number, entry: entry,
) -> list[tuple[int, Entry]]:
    """The lines of a manifest, each with its number, once nothing is wrong with any.

    Args:
        path: the JSONL file.
        sound: whether a line names an audio file, beside the manifest, in `audio`.
        needs: fields that hold some text, besides `id`.
        labels: of some fields, the values that are known; a line may lack the field.
        counts: whether a line is of use here; of others only the JSON is looked at.
        check: what else a reader finds wrong with a line that is right so far.
        translate: what a line of somebody else's format says in our words, given its number.

    Raises:
        ConfigError: the file cannot be read, or has faults; lists them by line: no JSON object, a
            field that is missing or empty, no such file, no audio in it, a rate that speech cannot
            be heard at or that its `duration` contradicts, an unknown label, an `id` that is
            another line's, a speaker in two splits.
    """
    entries: list[tuple[int, Entry]] = []
    faults: list[str] = []
    ids: dict[str, int] = {}
    splits: dict[str, tuple[str, int]] = {}
    heard: dict[Path, tuple[str, float]] = {}
    for number, line in manifest_lines(path):
        entry = _object(line)
        if isinstance(entry, str):
            faults.append(f"line {number}: {entry}")
            continue
        entry = translate(number, entry)
        if not counts(entry):
            continue
        wrong = next((f"no {name}" for name in ("id", *needs) if not _told(entry, name)), "")
        wrong = wrong or _repeated(entry, number, ids)
        wrong = wrong or _wrong_sound(entry, path.parent, sound, heard)
        wrong = wrong or _unknown(entry, labels or {})
        wrong = wrong or _in_two_splits(entry, number, splits)
        wrong = wrong or check(entry)
        if wrong:
            faults.append(f"line {number}: {wrong}")
        entries.append((number, entry))
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ConfigError(f"manifest {path}: {'; '.join(faults[:SHOWN])}{more}")
    return entries


def _object(line: str) -> Entry | str:
    try:
        entry = json.loads(line)
    except ValueError:
        return "not JSON"
    return entry if isinstance(entry, dict) else "not a JSON object"


def _told(entry: Entry, name: str) -> bool:
    return isinstance(entry.get(name), str) and bool(entry[name].strip())


def _repeated(entry: Entry, number: int, ids: dict[str, int]) -> str:
    first = ids.setdefault(entry["id"], number)
    return "" if first == number else f"id {entry['id']} is that of line {first}"


def _wrong_sound(
    entry: Entry, folder: Path, sound: Sound, heard: dict[Path, tuple[str, float]]
) -> str:
    if sound == "none" or (sound == "optional" and entry.get("audio") in (None, "")):
        return ""
    if not _told(entry, "audio"):
        return "no audio"
    audio = folder / entry["audio"]
    if audio not in heard:  # many lines may name one recording
        heard[audio] = _look(audio, entry["audio"])
    wrong, length_s = heard[audio]
    told = entry.get("duration")
    if wrong or told is None:
        return wrong
    if not isinstance(told, int | float):
        return f"duration {told!r} is no number of seconds"
    if length_s and told > 0 and abs(length_s - told) > max(_OFF * told, _OFF_S):
        return f"{entry['audio']} plays {length_s:.1f} s, its duration says {told:g}: a wrong rate?"
    return ""


def _look(audio: Path, name: str) -> tuple[str, float]:
    """What is wrong with a sound file by its header, and how long it is (0: it does not tell)."""
    from textpro_stream.audio.files import FileSource

    if not audio.is_file():
        return f"no file {name}", 0.0
    try:
        source = FileSource(audio)
    except AudioFormatError as error:
        return str(error).replace(str(audio), name), 0.0
    source.close()
    if source.rate_hz < LOWEST_HZ:
        return f"{name} has {source.rate_hz} Hz, speech needs {LOWEST_HZ} or more", 0.0
    return "", source.length_s or 0.0


def _unknown(entry: Entry, labels: Mapping[str, Sequence[str]]) -> str:
    for name, known in labels.items():
        told = entry.get(name)
        if told not in (None, "") and told not in known:
            return f"{name} {told!r} is none of {', '.join(known)}"
    return ""


def _in_two_splits(entry: Entry, number: int, splits: dict[str, tuple[str, int]]) -> str:
    split, speaker = str(entry.get("split") or ""), str(entry.get("speaker") or "")
    if not split or not speaker:
        return ""
    other, first = splits.setdefault(speaker, (split, number))
    if other == split:
        return ""
    return f"speaker {speaker} is in split {split}, on line {first} in {other}"


def read_manifest(
    path: Path, kinds: frozenset[str] = frozenset(), limit: int = 0, *, wordless: bool = False
) -> list[Item]:
    """The items of a manifest.

    Args:
        path: the JSONL file.
        kinds: keep only these; empty keeps all.
        limit: keep so many, spread evenly over the file; 0 keeps all.
        wordless: a text may be empty: nothing is said.

    Raises:
        ConfigError: as `read_entries`; a line needs `id`, `audio` and `text`.
    """
    items: list[Item] = []
    for _, entry in read_entries(path, check=partial(_no_item, wordless=wordless)):
        item = Item(
            id=entry["id"],
            audio=path.parent / entry["audio"],
            text=entry["text"],
            kind=str(entry.get("kind", "")),
            duration_s=float(entry.get("duration") or 0.0),
            speech_end_s=entry.get("speech_end_s"),
        )
        if not kinds or item.kind in kinds:
            items.append(item)
    if not items:
        raise ConfigError(
            f"manifest {path}: no items" + (f" of kind {sorted(kinds)}" * bool(kinds))
        )
    return spread(items, limit)


def _no_item(entry: Entry, *, wordless: bool) -> str:
    if not isinstance(entry.get("text"), str):
        return "no text"
    if not (entry["text"].strip() or wordless):
        return "its text is empty: what is said?"
    end = entry.get("speech_end_s")
    return "" if end is None or isinstance(end, int | float) else f"speech_end_s {end!r}"
