"""Manifests of pauses: what becomes of good lines, and what is said about bad ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.turns import Turn, read_turns

HOLD = {
    "id": "a#0",
    "audio": "a.wav",
    "speaker": "ann",
    "kind": "dialogue",
    "turn_start_s": 1.0,
    "pause_start_s": 2.0,
    "pause_end_s": 2.5,
    "label": "hold",
    "split": "dev",
}
END = HOLD | {"id": "a#1", "pause_start_s": 4.0, "pause_end_s": None, "label": "end"}


def read(folder: Path, *lines: dict[str, Any], **options: Any) -> list[Turn]:
    for line in lines:
        soundfile.write(folder / line["audio"], np.zeros(800, np.float32), 16_000)
    path = folder / "pauses.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_turns(path, **options)


def test_lines_of_one_turn_are_one_turn_in_order(tmp_path: Path) -> None:
    (turn,) = read(tmp_path, END, HOLD)
    assert turn.audio == tmp_path / "a.wav"
    assert [(p.id, p.silence_s) for p in turn.pauses] == [("a#0", 0.5), ("a#1", float("inf"))]


def test_an_end_ends_a_turn_whatever_stands_behind_it(tmp_path: Path) -> None:
    later = HOLD | {"id": "a#2", "pause_start_s": 5.0, "pause_end_s": 5.5}
    turns = read(tmp_path, HOLD, END, later)
    assert [[pause.id for pause in turn.pauses] for turn in turns] == [["a#0", "a#1"], ["a#2"]]


def test_a_read_sentence_that_is_complete_does_not_count(tmp_path: Path) -> None:
    (turn,) = read(tmp_path, HOLD | {"boundary": "sentence"}, END)
    assert [pause.counts for pause in turn.pauses] == [False, True]


def test_splits_and_kinds_choose(tmp_path: Path) -> None:
    other = END | {
        "id": "b#0",
        "speaker": "bob",
        "audio": "b.wav",
        "kind": "assistant",
        "split": "test",
    }
    assert len(read(tmp_path, HOLD, END, other)) == 2
    for chosen in ({"splits": frozenset({"test"})}, {"kinds": frozenset({"assistant"})}):
        (turn,) = read(tmp_path, HOLD, END, other, **chosen)
        assert turn.pauses[0].id == "b#0"
    with pytest.raises(ConfigError, match="no pauses of what was asked for"):
        read(tmp_path, HOLD, splits=frozenset({"nowhere"}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"label": "maybe"}, "'maybe' is none of hold, end, backchannel"),
        ({"turn_start_s": 3.0}, "do not follow on each other"),
        ({"pause_end_s": 1.5}, "do not follow on each other"),
        ({"pause_end_s": None}, "a hold needs its pause_end_s"),
        ({"label": "end"}, "an end has no pause_end_s"),
        ({"pause_start_s": "soon"}, "pause_start_s 'soon' is no number of seconds"),
        ({"pause_end_s": "late"}, "pause_end_s 'late' is no number of seconds"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"line 2: .*{told}"):
        read(tmp_path, END, HOLD | change)


@pytest.mark.parametrize("name", ["speaker", "kind", "label", "turn_start_s", "pause_end_s"])
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    line = {key: value for key, value in HOLD.items() if key != name}
    with pytest.raises(ConfigError, match=f"line 1: no {name}"):
        read(tmp_path, line)
