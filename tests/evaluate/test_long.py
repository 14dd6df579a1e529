"""Long conversations: what a recording is made of, and the command with a small model."""

from __future__ import annotations

import argparse
import json
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tiny_llm import write_model
from tiny_whisper import listening_model, melody, save, silence

from textpro_stream.config import DeviceOptions, LlmOptions, Settings, TurnOptions, WhisperOptions
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate import long
from textpro_stream.evaluate.long_figures import Course, Look, draw
from textpro_stream.evaluate.recording import PAUSE, Recording, read_pieces, record

SECOND = SAMPLE_RATE


def write(folder: Path, *entries: dict[str, Any]) -> Path:
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def whole(recording: Recording) -> np.ndarray:
    chunks = list(recording.chunks())
    assert all(a.end == b.start for a, b in pairwise(chunks))
    return np.concatenate([chunk.samples for chunk in chunks])


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two of 3 s, the second one in two segments."""
    for name, level in (("a", 0.1), ("b", 0.2)):
        soundfile.write(tmp_path / f"{name}.wav", np.full(3 * SECOND, level, np.float32), SECOND)
    segments = [{"start": 0, "end": 1, "text": "two"}, {"start": 1, "end": 3, "text": "three"}]
    return write(
        tmp_path,
        {"id": "a", "audio": "a.wav", "text": "one", "kind": "read"},
        {"id": "b", "audio": "b.wav", "text": "two three", "kind": "long", "segments": segments},
    )


def test_clips_are_joined_whole_and_over_again(clips: Path) -> None:
    pieces = read_pieces(clips)
    assert [(len(piece.samples), piece.text) for piece in pieces] == [
        (3 * SECOND + PAUSE, "one"),
        (1 * SECOND, "two"),
        (2 * SECOND, "three"),
    ]
    once = record(pieces, 6 / 60)  # the last piece would be too long
    assert (once.end, once.text) == (5 * SECOND, "one two")
    heard = whole(once)
    assert len(heard) == once.end
    assert heard[: 3 * SECOND] == pytest.approx(0.1, abs=1e-3)
    assert not heard[3 * SECOND : 4 * SECOND].any()
    assert heard[4 * SECOND :] == pytest.approx(0.2, abs=1e-3)
    again = record(pieces, 12 / 60)
    assert (again.end, again.text) == (12 * SECOND, "one two three one two")
    assert len(whole(again)) == again.end
    assert record(pieces, 0.001).text == "one"  # at least one
    assert [piece.text for piece in read_pieces(clips, frozenset({"long"}))] == ["two", "three"]


def test_a_clip_whose_segments_leave_something_out_stays_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(3 * SECOND, 0.1, np.float32), SECOND)
    segments = [{"start": 0, "end": 1, "text": "one"}, {"start": 2.5, "end": 3, "text": "two"}]
    path = write(tmp_path, {"id": "a", "audio": "a.wav", "text": "one a two", "segments": segments})
    (piece,) = read_pieces(path)
    assert piece.text == "one a two"


def test_a_sound_file_is_played_to_the_length(tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.linspace(-0.5, 0.5, 3 * SECOND, dtype=np.float32), SECOND)
    found = record(read_pieces(path), 5 / 60)
    assert (found.end, found.text) == (5 * SECOND, None)
    heard = whole(found)
    assert len(heard) == 5 * SECOND
    assert np.array_equal(heard[3 * SECOND :], heard[: 2 * SECOND])


@pytest.mark.parametrize(
    ("segments", "told"),
    [
        ("none", "segments is no list"),
        ([{"start": 0, "end": 1}], "a segment needs start, end and text"),
        ([{"start": "0", "end": 1, "text": ""}], "a segment needs start, end and text"),
        ([{"start": 2, "end": 1, "text": ""}], "a segment ends before it begins"),
    ],
)
def test_wrong_segments_are_told_by_line(clips: Path, segments: object, told: str) -> None:
    entry = {"id": "a", "audio": "a.wav", "text": "one", "segments": segments}
    with pytest.raises(ConfigError, match=f"line 1: {told}"):
        read_pieces(write(clips.parent, entry))


def measure(settings: Settings, *words: object) -> int:
    parser = argparse.ArgumentParser()
    long.add_arguments(parser)
    return long.run(parser.parse_args([str(word) for word in words]), settings)


def test_from_clips_to_a_table_a_line_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whisper = save(listening_model(), tmp_path / "listening")
    (tmp_path / "llm").mkdir()
    write_model(tmp_path / "llm", "Llama")
    settings = Settings(
        whisper=WhisperOptions(model=str(whisper)),
        turn=TurnOptions(vad="webrtc"),
        llm=LlmOptions(model=str(tmp_path / "llm"), dtype="float32", context=256),
        device=DeviceOptions(name="cpu", threads=1),
    )
    for i in range(2):
        audio = [*melody(3.0, 4 + i), *silence(3.0)]
        soundfile.write(tmp_path / f"{i}.wav", audio, SAMPLE_RATE)
    path = write(tmp_path, *({"id": str(i), "audio": f"{i}.wav", "text": "song"} for i in range(2)))
    told, page = tmp_path / "long.json", tmp_path / "long.html"
    words = (path, "--minutes", "0.25,0.8", "--json", told, "--report", page)
    assert measure(settings, *words) == 0
    out = capsys.readouterr().out
    assert "| 0.2 min |" in out
    (line,) = told.read_text().splitlines()
    short, longer = json.loads(line)["lengths"]
    assert (short["length_s"], longer["length_s"]) == (14.0, 42.0)
    assert (short["turns"], longer["turns"]) == (2, 6)
    assert longer["windows"] > short["windows"] > 0
    assert short["wer"] > 0
    # The context holds them all by forgetting the oldest.
    assert 0 < short["rows_most"] <= 256
    assert 0 < longer["rows_most"] <= 256
    assert longer["cpu_per_s"] > 0
    assert longer["rss_most_mib"] >= longer["rss_begin_mib"] > 0
    assert page.read_text().count("<svg") == 4
    HTMLParser().feed(page.read_text())


def test_lengths_that_are_none_are_refused(clips: Path) -> None:
    for wrong in ("", "ten", "0", "-1", "2,inf"):
        with pytest.raises(ConfigError, match="give lengths such as"):
            measure(Settings(), clips, f"--minutes={wrong}")
    with pytest.raises(ConfigError, match="leave --llm out"):
        measure(Settings(llm=LlmOptions(url="http://127.0.0.1:1/v1")), clips)


def test_cost_and_lag_are_those_between_two_looks() -> None:
    course = Course(20.0)
    course.looks = [
        Look(0.0, 5.0, 0.0, 0.0, 100.0, 0),
        Look(10.0, 7.0, 1.0, 0.5, 120.0, 30),
        Look(20.0, 8.0, 1.5, 1.0, 110.0, 20),
    ]
    course.lags = [(5.0, 0.2), (10.0, 0.4), (15.0, 1.0)]
    assert course.per_second() == [(10.0, 0.2, 0.1, 0.05), (20.0, 0.1, 0.05, 0.05)]
    told = course.figures()
    assert (told["cpu_per_s"], told["rss_most_mib"], told["rows_most"]) == (0.15, 120.0, 30)
    assert told["wer"] is None
    page = draw([course])
    assert "lag: 0.3" in page
    assert "lag: 1" in page
