"""Turns of real talk and their pauses: JSONL, one pause a line, for `textpro eval endpoint`.

    {"id": "call7-a#3", "audio": "call7.flac", "speaker": "call7-a", "kind": "dialogue",
     "turn_start_s": 12.4, "pause_start_s": 15.1, "pause_end_s": 16.0, "label": "hold"}

`audio` is beside the manifest. `pause_start_s` is where the detector's voice ends. `pause_end_s` is
where the same speaker goes on; null where the turn is over. `label` is hold, end or backchannel (a
"yeah" while the other one talks). Lines with the same audio and `turn_start_s` are one turn. May be
there: `split`, and `boundary`: "sentence" where a reader pauses behind a finished sentence, which
nobody can tell from an end; such a pause is heard, and left out of all figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.manifest import Entry, read_entries

Label = Literal["hold", "end", "backchannel"]
LABELS: tuple[Label, ...] = get_args(Label)


@dataclass(frozen=True, slots=True)
class Pause:
    """One silence in somebody's talk, and what it was."""

    id: str
    speaker: str
    kind: str  # assistant, dialogue, read …
    split: str  # "" where the manifest names none
    label: Label
    start_s: float  # of the silence, in its file
    end_s: float | None  # where the speaker went on; None: the turn was over
    counts: bool = True  # False: heard, and left out of all figures

    @property
    def judged(self) -> bool:
        """It is an end or a hold, and in the figures."""
        return self.counts and self.label != "backchannel"

    @property
    def silence_s(self) -> float:
        """How long it lasted; without end where nobody went on."""
        return float("inf") if self.end_s is None else self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Turn:
    """One person's say."""

    audio: Path
    start_s: float
    pauses: tuple[Pause, ...]  # in order; only the last may be where it ends


def read_turns(
    path: Path, *, splits: frozenset[str] = frozenset(), kinds: frozenset[str] = frozenset()
) -> list[Turn]:
    """The turns of a manifest.

    Args:
        path: the JSONL file.
        splits: keep only these; empty keeps all.
        kinds: likewise.

    Raises:
        ConfigError: the file cannot be read or has faults, listed by line, or there is no pause of
            what was asked for.
    """
    found: list[tuple[Path, float, Pause]] = []
    entries = read_entries(
        path, needs=("speaker", "kind", "label"), labels={"label": LABELS}, check=_wrong
    )
    for _, entry in entries:
        pause = _pause(entry)
        if (not splits or pause.split in splits) and (not kinds or pause.kind in kinds):
            found.append((path.parent / entry["audio"], float(entry["turn_start_s"]), pause))
    if not found:
        raise ConfigError(f"manifest {path}: no pauses of what was asked for")
    found.sort(key=lambda item: (str(item[0]), item[1], item[2].start_s))
    turns: list[Turn] = []
    for (audio, start_s), group in groupby(found, key=lambda item: item[:2]):
        turns += (Turn(audio, start_s, pauses) for pauses in _ended([p for _, _, p in group]))
    return turns


def _wrong(entry: Entry) -> str:
    """What is wrong with a pause's times."""
    for name in ("turn_start_s", "pause_start_s"):
        if not isinstance(entry.get(name), int | float):
            return (
                f"{name} {entry[name]!r} is no number of seconds" if name in entry else f"no {name}"
            )
    if "pause_end_s" not in entry:
        return "no pause_end_s"
    end = entry["pause_end_s"]
    if end is not None and not isinstance(end, int | float):
        return f"pause_end_s {end!r} is no number of seconds"
    later = float("inf") if end is None else end
    if not 0 <= entry["turn_start_s"] < entry["pause_start_s"] < later:
        return "turn_start_s, pause_start_s and pause_end_s do not follow on each other"
    if entry["label"] == "end" and end is not None:
        return "an end has no pause_end_s: write null"
    if entry["label"] == "hold" and end is None:
        return "a hold needs its pause_end_s"
    return ""


def _pause(entry: Entry) -> Pause:
    end = entry["pause_end_s"]
    return Pause(
        id=entry["id"],
        speaker=entry["speaker"],
        kind=entry["kind"],
        split=str(entry.get("split") or ""),
        label=entry["label"],
        start_s=float(entry["pause_start_s"]),
        end_s=None if end is None else float(end),
        counts=entry.get("boundary") != "sentence",
    )


def _ended(pauses: Sequence[Pause]) -> Iterator[tuple[Pause, ...]]:
    """Cut behind each end: what follows is heard in a run of its own."""
    begin = 0
    for i, pause in enumerate(pauses, 1):
        if pause.end_s is None or i == len(pauses):
            yield tuple(pauses[begin:i])
            begin = i
