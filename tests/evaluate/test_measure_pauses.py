"""The pause table: what a policy costs, and one run over real code with a scripted neighbour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile
import torch

from textpro_stream.contracts import AudioChunk, Preview, TokenSpan, Transcript
from textpro_stream.evaluate.pauses import Pause, PauseTable, measure_pauses
from textpro_stream.evaluate.vad import Listening
from textpro_stream.whisper import WhisperPro

TABLE = PauseTable(
    [
        Pause("a", "I would like a", 900.0),
        Pause("a", "I would like a latte.", None),
        Pause("b", "Make me one.", 600.0),
        Pause("b", "Make me one. With milk", None),
    ]
)


def test_words_that_want_more_are_waited_for() -> None:
    cut, wait_ms = TABLE.policy(500, 1500)
    assert cut == 1  # only the one that sounds complete
    assert wait_ms == pytest.approx((500 + 1000) / 2)  # a missing full stop costs half


def test_equal_figures_ignore_the_words() -> None:
    assert TABLE.policy(500, 500) == (2, 500)
    assert TABLE.policy(700, 700) == (1, 700)


def test_every_level_and_policy_is_printed() -> None:
    lines = str(TABLE).splitlines()
    assert "| 0.55 | 1 | 1 |" in lines
    assert "| 500 to 1500 | 1 | 750 | 1 |" in lines


class ScriptedRecognizer:
    """Commits a word with each push."""

    def __init__(self, start: int) -> None:
        self.end = start

    def push(self, chunk: AudioChunk) -> list[Transcript]:
        assert chunk.start == self.end, "audio must follow on"
        self.end = chunk.end
        return [Transcript(committed=(self._span(" word"),))]

    def preview(self) -> Preview:
        return Preview((self._span(" and more."),))

    def _span(self, text: str) -> TokenSpan:
        return TokenSpan((1,), text, 0, self.end, -0.1, torch.zeros(1, 4))


class ScriptedWhisper:
    def open(self, start: int) -> ScriptedRecognizer:
        return ScriptedRecognizer(start)


def test_pauses_of_a_clip_are_found_with_their_length_and_words(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "speech.wav", np.full(48_000, 1e-3), 16_000)
    entry = {"id": "x", "audio": "speech.wav", "text": "", "kind": "read"}
    (tmp_path / "list.jsonl").write_text(json.dumps(entry) + "\n")
    voice = [(0, 1000), (1, 800), (0, 700), (1, 800), (0, 2700)]  # a second before, two behind
    vad = Listening(320, [p for p, ms in voice for _ in range(ms // 20)])
    whisper = cast("WhisperPro", ScriptedWhisper())
    table = measure_pauses(tmp_path / "list.jsonl", whisper, vad)
    assert table.pauses == [
        Pause("x", " word and more.", 700.0),
        Pause("x", " word word and more.", None),
    ]
