from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from textpro_stream.evaluate.manifest import read_manifest
from textpro_stream.evaluate.score import Summary, TimedWord, errors, lags


def test_spelling_case_and_numbers_are_no_errors() -> None:
    assert errors("Mr. Brown's colour, twenty one!", "mister brown's color 21").wer == 0


def test_each_kind_of_error_is_counted_and_adds_up() -> None:
    found = errors("one cat sat down", "one dog sat") + errors("hello", "hello again")
    assert (found.substitutions, found.deletions, found.insertions, found.words) == (1, 1, 1, 5)
    assert found.wer == pytest.approx(60)


def test_words_where_none_were_said_are_insertions() -> None:
    assert errors("", "thank you").insertions == 2


def test_lag_is_taken_of_words_in_both_texts_only() -> None:
    committed = [TimedWord(" The", 1.0), TimedWord(" red", 1.0), TimedWord(" cat.", 2.0)]
    spoken = [TimedWord(" the", 0.25), TimedWord(" dead", 0.5), TimedWord(" cat", 1.0)]
    assert lags(committed, spoken) == [0.75, 1.0]


def test_a_summary_of_nothing_is_zero() -> None:
    assert Summary.of([]).n == 0
    assert Summary.of([1.0, 2.0, 6.0]).p50 == 2.0


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_a_manifest_is_thinned_evenly_and_filtered_by_kind(tmp_path: Path) -> None:
    items = [
        {"id": str(i), "audio": f"{i}.wav", "text": "x", "kind": "ab"[i % 2]} for i in range(10)
    ]
    for item in items:
        soundfile.write(tmp_path / str(item["audio"]), np.zeros(800, np.float32), 16_000)
    path = write(tmp_path / "m.jsonl", [json.dumps(item) for item in items])
    assert [item.id for item in read_manifest(path, limit=5)] == ["0", "2", "4", "6", "8"]
    assert {item.kind for item in read_manifest(path, frozenset("b"))} == {"b"}
    assert read_manifest(path)[3].audio == tmp_path / "3.wav"
