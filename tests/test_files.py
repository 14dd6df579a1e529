"""Files that are never seen half written."""

from __future__ import annotations

from pathlib import Path

import pytest

from textpro_stream.files import replacing


def test_what_is_written_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("old")
    with replacing(path) as beside:
        beside.write_text("new")
        assert beside.suffix == ".jsonl"
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as beside:
            beside.write_text("new")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
