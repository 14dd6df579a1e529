"""From a manifest to tables and a page, through the real listener with scripted neighbours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
from tiny_onnx import write_onnx

from textpro_stream.config import TurnOptions
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, Ending, Preview, TokenSpan, Transcript
from textpro_stream.errors import WeightsError
from textpro_stream.evaluate.endpoint import OLD_NAME, tabulate
from textpro_stream.evaluate.evidence import Asked, gather
from textpro_stream.evaluate.smart_turn import SmartTurn
from textpro_stream.evaluate.trade_off import draw_page
from textpro_stream.evaluate.turns import read_turns
from textpro_stream.evaluate.vad import Listening
from textpro_stream.whisper import WhisperPro
from textpro_stream.whisper.work import Work

WORDS = [(" I want", 0.6), (" a cup of", 1.0), (" tea.", 2.9)]  # and when they have been said
VOICE = [(0, 600), (1, 800), (0, 500), (1, 800), (0, 3000)]  # the run begins with half a second
FIGURES = {"end": -1.0, "full_stop": -2.0, "comma": -3.0, "question": -4.0, "exclamation": -5.0}


class ScriptedRecognizer:
    """Commits nothing before the end; its previews grow with the audio."""

    def __init__(self, start: int) -> None:
        self.end = start
        self.work = Work()

    def push(self, chunk: AudioChunk) -> list[Transcript]:
        assert chunk.start == self.end, "audio must follow on"
        self.end = chunk.end
        return []

    def preview(self) -> Preview:
        spans = [
            TokenSpan((1,), text, 0, self.end, -0.1, torch.zeros(1, 4))
            for text, at_s in WORDS
            if at_s + 0.5 <= self.end / SAMPLE_RATE
        ]
        states = np.full((3, 4), len(spans), np.float32)
        return Preview(tuple(spans), Ending(**FIGURES, closed=-0.1, states=states))

    def finish(self) -> list[Transcript]:
        return [Transcript(committed=self.preview().spans)]

    def revise(self) -> None:
        return None


class ScriptedWhisper:
    """Counts how many turns it heard."""

    def __init__(self) -> None:
        self.n_opened = 0

    def open(self, start: int, _: object = None) -> ScriptedRecognizer:
        self.n_opened += 1
        return ScriptedRecognizer(start)


def pause(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"x#{number}",
        "audio": "speech.wav",
        "speaker": "ann",
        "kind": "dialogue",
        "turn_start_s": 0.1,
        "pause_start_s": 0.9,
        "pause_end_s": 1.4,
        "label": "hold",
    } | changes


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "speech.wav", np.full(48_000, 1e-3), SAMPLE_RATE)
    end = pause(1, pause_start_s=2.2, pause_end_s=None, label="end")
    path = tmp_path / "pauses.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (pause(0), end)))
    return path


def hear(manifest: Path, whisper: ScriptedWhisper, cache: Path | None = None) -> list[Asked]:
    vad = Listening(320, [p for p, ms in VOICE for _ in range(ms // 20)])
    turns = read_turns(manifest)
    return gather(turns, cast("WhisperPro", whisper), vad, TurnOptions(), cache=cache)


def test_each_pause_is_told_with_its_words_and_what_the_recogniser_knew(manifest: Path) -> None:
    hold, end = hear(manifest, ScriptedWhisper())
    assert (hold.pause.id, hold.turn.text) == ("x#0", " I want a cup of")
    assert (end.pause.id, end.turn.text) == ("x#1", " I want a cup of")
    assert end.asked_s == pytest.approx(0.1, abs=0.05)
    assert end.turn.ending is not None
    assert end.turn.ending.full_stop == -2.0
    assert end.turn.ending.states.shape == (3, 4)


def test_what_was_heard_once_is_kept(manifest: Path, tmp_path: Path) -> None:
    whisper, cache = ScriptedWhisper(), tmp_path / "kept" / "heard.npz"
    first = hear(manifest, whisper, cache)
    again = hear(manifest, whisper, cache)
    assert whisper.n_opened == 1

    def told(asked: Sequence[Asked]) -> list[object]:
        return [(a.pause, a.audio, a.turn.text, a.asked_s, a.turn_key) for a in asked]

    assert told(again) == told(first)
    for one, other in zip(first, again, strict=True):
        assert one.turn.ending is not None
        assert other.turn.ending is not None
        assert one.turn.ending.closed == other.turn.ending.closed
        np.testing.assert_array_equal(one.turn.ending.states, other.turn.ending.states)


def test_tables_say_what_the_old_rule_costs(manifest: Path) -> None:
    table = str(tabulate(hear(manifest, ScriptedWhisper()), TurnOptions(), lost=2))
    assert "dialogue: 1 ends, 1 holds, 1 turns" in table
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {OLD_NAME} |")]
    # "of" wants another word: the hold of 0.5 s is waited out, and so would an end be.
    assert "| 0.0 % | 1400 ms |" in row
    assert "2 pauses that the detector did not find are left out." in table


def test_the_page_stands_alone(manifest: Path) -> None:
    page = draw_page(tabulate(hear(manifest, ScriptedWhisper()), TurnOptions()).curves())
    HTMLParser().feed(page)
    assert OLD_NAME in page
    assert "http" not in page.replace("http-equiv", "")


def test_other_models_are_asked_beside_ours(manifest: Path, tmp_path: Path) -> None:
    other = SmartTurn(write_onnx(tmp_path / "sure.onnx", 9.0))
    asked = hear(manifest, ScriptedWhisper())
    table = str(tabulate(asked, TurnOptions(), [("sure", other)]))
    assert any(line.startswith("| sure |") for line in table.splitlines())
    assert other.p_end(np.zeros(100, np.float32)) > 0.99


def test_models_of_another_input_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"wants input_features.*expected one input"):
        SmartTurn(write_onnx(tmp_path / "other.onnx", 0.0, (80, 3000)))
    (tmp_path / "no.onnx").write_text("no")
    with pytest.raises(WeightsError, match="not an ONNX model"):
        SmartTurn(tmp_path / "no.onnx")
