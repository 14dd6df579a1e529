"""Manifests: everything that is wrong with one is told before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from textpro_stream.errors import ConfigError
from textpro_stream.train.data import hold_out, load_audio, read_clips


def manifest(folder: Path, *lines: object) -> Path:
    path = folder / "m.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def clip(folder: Path, name: str, **more: object) -> dict[str, object]:
    soundfile.write(folder / f"{name}.wav", np.full(1600, 0.5, np.float32), 16_000)
    return {"id": name, "audio": f"{name}.wav", **more}


def test_what_an_objective_asks_for_is_told_by_line(tmp_path: Path) -> None:
    path = manifest(tmp_path, clip(tmp_path, "a"), clip(tmp_path, "d", label="odd"))
    with pytest.raises(ConfigError, match="line 2: unknown label"):
        read_clips(path, check=lambda entry: "unknown label" if "label" in entry else "")


def test_an_empty_one_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no clips"):
        read_clips(manifest(tmp_path, ""))


def test_audio_that_is_none_names_its_line(tmp_path: Path) -> None:
    (found,) = read_clips(manifest(tmp_path, "", clip(tmp_path, "x")))
    (tmp_path / "x.wav").write_text("it was replaced by words since then")
    with pytest.raises(ConfigError, match="line 2"):
        load_audio(found)


def test_clips_come_whole_or_cut(tmp_path: Path) -> None:
    (found,) = read_clips(manifest(tmp_path, clip(tmp_path, "a")))
    assert load_audio(found).shape == (1600,)
    assert load_audio(found, 0.05).shape == (800,)
    assert abs(load_audio(found)[0] - 16384) <= 1


def test_nobody_is_on_both_sides(tmp_path: Path) -> None:
    lines = [clip(tmp_path, f"c{i}", speaker=f"s{i % 40}") for i in range(80)]
    clips = read_clips(manifest(tmp_path, *lines, clip(tmp_path, "x")))
    train, held = hold_out(clips, 0.2, always={"s3"})
    assert {c.speaker for c in train}.isdisjoint(c.speaker for c in held)
    assert len(train) + len(held) == 81
    assert "s3" in {c.speaker for c in held}
    assert 2 <= len({c.speaker for c in held}) <= 20
    assert "x" in {c.id for c in train}  # nobody knows who it is
    again = hold_out(clips[::-1], 0.2, always={"s3"})[1]
    assert {c.id for c in again} == {c.id for c in held}
