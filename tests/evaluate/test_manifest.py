"""Manifests: everything that is wrong with one is told at once, by line, before anything starts."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.manifest import read_entries, read_manifest
from textpro_stream.evaluate.said import read_labelled
from textpro_stream.evaluate.turns import read_turns
from textpro_stream.train.data import read_clips

PAUSE = {"kind": "read", "turn_start_s": 0.1, "pause_start_s": 0.5, "pause_end_s": None}
GOOD = {"id": "a", "audio": "a.wav", "text": "hello", "speaker": "ann", **PAUSE, "label": "end"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.full(16_000, 0.1, np.float32), 16_000)
    return tmp_path


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "m.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name} | {"id": "b"}


FAULTS: list[tuple[Any, str]] = [
    ("{", "not JSON"),
    ([1], "not a JSON object"),
    (GOOD, "id a is that of line 1"),
    (GOOD | {"id": ""}, "no id"),
    (GOOD | {"id": 7}, "no id"),
    (without("audio"), "no audio"),
    (GOOD | {"id": "b", "audio": "none.wav"}, "no file none.wav"),
    (GOOD | {"id": "b", "audio": "notes.wav"}, "notes.wav: not audio that can be read"),
    (GOOD | {"id": "b", "audio": "empty.wav"}, "empty.wav: is empty"),
    (GOOD | {"id": "b", "audio": "low.wav"}, "low.wav has 4000 Hz, speech needs 8000"),
    (
        GOOD | {"id": "b", "audio": "fast.wav", "duration": 2.0},
        "fast.wav plays 1.0 s, its duration says 2: a wrong rate?",
    ),
    (GOOD | {"id": "b", "duration": "long"}, "duration 'long' is no number of seconds"),
    (GOOD | {"id": "b", "split": "dev"}, "speaker ann is in split dev, on line 1 in train"),
]


@pytest.mark.parametrize(
    "read", [read_manifest, read_labelled, read_turns, read_clips], ids=lambda read: read.__name__
)
@pytest.mark.parametrize(("line", "told"), FAULTS, ids=[told for _, told in FAULTS])
def test_every_reader_tells_each_fault_with_its_line(
    folder: Path, read: Callable[[Path], object], line: Any, told: str
) -> None:
    (folder / "notes.wav").write_text("these are words and no sound, whatever they are called")
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "low.wav", np.full(4000, 0.1, np.float32), 4000)
    # Two seconds at 16 kHz whose header says 32 kHz.
    soundfile.write(folder / "fast.wav", np.full(32_000, 0.1, np.float32), 16_000)
    data = bytearray((folder / "fast.wav").read_bytes())
    data[24:32] = struct.pack("<II", 32_000, 64_000)
    (folder / "fast.wav").write_bytes(data)
    first = GOOD | {"split": "train", "emotion": "anger"}
    if isinstance(line, dict):
        line = {"emotion": "anger"} | line
    with pytest.raises(ConfigError) as raised:
        read(write(folder, first, "", line))
    assert f"line 3: {told}" in str(raised.value)
    assert "line 1" not in str(raised.value).replace("of line 1", "").replace("on line 1", "")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("read", "line", "told"),
    [
        (read_manifest, GOOD | {"text": " "}, "its text is empty"),
        (read_manifest, without("text"), "no text"),
        (read_manifest, GOOD | {"speech_end_s": "soon"}, "speech_end_s 'soon'"),
        (read_labelled, without("speaker") | {"emotion": "envy"}, "no speaker"),
        (read_turns, without("speaker"), "no speaker"),
        (read_turns, GOOD | {"label": "maybe"}, "label 'maybe' is none of hold, end, backchannel"),
    ],
)
def test_readers_tell_what_they_need(
    folder: Path, read: Callable[[Path], object], line: Any, told: str
) -> None:
    with pytest.raises(ConfigError, match=f"line 1: {told}"):
        read(write(folder, line))


def test_all_faults_are_listed_and_many_are_counted(folder: Path) -> None:
    path = write(folder, GOOD, "{", GOOD, without("audio"))
    with pytest.raises(ConfigError, match=r"line 2: .*; line 3: .*; line 4: "):
        read_entries(path)
    with pytest.raises(ConfigError, match="and 5 more"):
        read_entries(write(folder, *["{"] * 25))


def test_a_fault_of_a_recording_is_told_of_each_line_that_names_it(folder: Path) -> None:
    lines = [GOOD | {"id": name, "audio": "none.wav"} for name in "ab"]
    with pytest.raises(ConfigError, match=r"line 1: no file none\.wav; line 2: no file none\.wav"):
        read_entries(write(folder, *lines))


def test_what_is_no_fault_passes(folder: Path) -> None:
    soundfile.write(folder / "call.wav", np.full(8000, 0.1, np.float32), 8000)
    fine = [
        GOOD | {"duration": 1.04, "split": "dev"},
        GOOD | {"id": "b", "split": "dev"},
        GOOD | {"id": "c", "speaker": "", "split": "train"},
        GOOD | {"id": "d", "audio": "call.wav", "speaker": "bob"},
    ]
    found = read_entries(write(folder, *fine))
    assert [(number, entry["id"]) for number, entry in found] == [*enumerate("abcd", 1)]
    assert read_entries(write(folder, {"id": "x"}), sound="optional")[0][1] == {"id": "x"}
    assert read_entries(write(folder, GOOD | {"audio": "none"}), sound="none")


def test_what_cannot_be_read_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give a JSONL file"):
        read_entries(tmp_path / "none.jsonl")
