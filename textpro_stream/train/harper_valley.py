"""Pauses of the Gridspace-Stanford Harper Valley calls, as a manifest for `train end-of-turn`.

    data/audio/{agent,caller}/SID.wav   one side each
    data/transcript/SID.json            segments of both
    data/metadata/SID.json              who speaks

Both sides are recorded apart, so who goes on after a silence is known. An end: the other side talks
next. A hold: the same side goes on, within `LONGEST_S`, at most an "mm-hmm" between. Positions in a
file are its segments' `offset_ms`; `start_ms` is the clock of the call, on which the sides compare.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textpro_stream.errors import ConfigError
from textpro_stream.turn import is_backchannel

SHORTEST_S = 0.2  # of a pause: shorter ones are gaps between words
LONGEST_S = 5.0  # of a hold: after more, what the silence meant is anybody's guess
_BACKCHANNEL_S = 1.3  # an "okay, okay" that takes no turn is shorter
_NOISE = re.compile(r"\[[^\]]*\]|<[^>]*>")  # marks of transcribers: [noise], [laughter]


@dataclass(frozen=True, slots=True)
class _Segment:
    """One stretch of one side; seconds."""

    side: str
    text: str
    starts_s: float  # on the clock of the call
    at_s: float  # in the side's own file
    lasts_s: float
    gaps: tuple[tuple[float, float], ...]  # between its words, in the side's own file

    @property
    def minor(self) -> bool:
        """It takes no turn."""
        return is_backchannel(self.text) and self.lasts_s <= _BACKCHANNEL_S


def write_manifest(folder: Path, path: Path) -> Path:
    """Write the pauses of all calls below a folder.

    Args:
        folder: of the corpus; holds `data`, or is it.
        path: of the manifest, as `evaluate/turns.py` describes it; all of it is split `train`.

    Raises:
        ConfigError: no calls there, or one that is not of this form.
    """
    data = folder / "data" if (folder / "data").is_dir() else folder
    calls = sorted((data / "transcript").glob("*.json"))
    if not calls:
        raise ConfigError(f"{folder}: no data/transcript/*.json; is it the Harper Valley corpus?")
    lines: list[str] = []
    for call in calls:
        try:
            lines += (json.dumps(pause) + "\n" for pause in _pauses(data, call.stem))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{call}: not a call of Harper Valley ({error})") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _pauses(data: Path, sid: str) -> Iterator[dict[str, Any]]:
    told = json.loads((data / "transcript" / f"{sid}.json").read_text(encoding="utf-8"))
    who = json.loads((data / "metadata" / f"{sid}.json").read_text(encoding="utf-8"))
    said = sorted((s for s in map(_segment, told) if s.text), key=lambda s: s.starts_s)
    for side in ("agent", "caller"):
        entry = {
            "audio": str((data / "audio" / side / f"{sid}.wav").resolve()),
            "speaker": f"harper-valley-{who[side]['speaker_id']}",
            "source": "Gridspace-Stanford Harper Valley",
            "kind": "dialogue",
            "split": "train",
        }
        for i, (turn_start_s, start_s, end_s) in enumerate(_of_side(said, side)):
            yield entry | {
                "id": f"{sid}-{side}#{i}",
                "turn_start_s": turn_start_s,
                "pause_start_s": start_s,
                "pause_end_s": end_s,
                "label": "end" if end_s is None else "hold",
            }


def _of_side(said: Sequence[_Segment], side: str) -> Iterator[tuple[float, float, float | None]]:
    """Where its turn began, a pause of it began, and ended: None where the turn was over."""
    turn: float | None = None
    for i, segment in enumerate(said):
        if segment.side != side or (turn is None and segment.minor):
            continue
        turn = segment.at_s if turn is None else turn
        yield from ((turn, *gap) for gap in segment.gaps)
        until_s = segment.at_s + segment.lasts_s
        following = next((s for s in said[i + 1 :] if s.side == side or not s.minor), None)
        if following is None:  # the call is over, or was cut
            return
        if following.side != side:
            yield turn, until_s, None
            turn = None
        elif SHORTEST_S <= following.at_s - until_s <= LONGEST_S:
            yield turn, until_s, following.at_s
        elif following.at_s - until_s > LONGEST_S:
            turn = None


def _segment(told: dict[str, Any]) -> _Segment:
    at_s, lasts_s = told["offset_ms"] / 1000, told["duration_ms"] / 1000
    begins = [at_s + ms / 1000 for ms in told["word_offsets_ms"]]
    ends = [b + ms / 1000 for b, ms in zip(begins, told["word_durations_ms"], strict=True)]
    gaps = tuple((e, b) for e, b in zip(ends, begins[1:], strict=False) if b - e >= SHORTEST_S)
    text = _NOISE.sub("", told["human_transcript"]).strip()
    return _Segment(told["speaker_role"], text, told["start_ms"] / 1000, at_s, lasts_s, gaps)
