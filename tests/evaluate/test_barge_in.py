"""What is said over a reply, through the real listener with scripted neighbours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile

from textpro_stream.config import TurnOptions
from textpro_stream.contracts import AudioChunk, Preview, TokenSpan, Transcript
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.barge_in import Said, say, table
from textpro_stream.evaluate.turns import read_turns
from textpro_stream.evaluate.vad import Listening
from textpro_stream.whisper import WhisperPro
from textpro_stream.whisper.work import Work


class Knows:
    """A recogniser that knows from the beginning what will be said."""

    def __init__(self, text: str) -> None:
        self._text, self.work = text, Work()

    def open(self, start: int, _: object) -> Knows:
        return self

    def push(self, chunk: AudioChunk) -> list[Transcript]:
        return []

    def preview(self) -> Preview:
        return Preview((TokenSpan((1,), self._text, 0, 1, -0.1, None),))

    def finish(self) -> list[Transcript]:
        return [Transcript(committed=self.preview().spans)]

    def revise(self) -> None:
        return None


@pytest.mark.parametrize(("text", "stops"), [(" Mm-hmm.", False), (" No, wait.", True)])
def test_words_decide_where_sound_would_stop(tmp_path: Path, text: str, stops: bool) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(32_000, 1e-3), 16_000)
    pause = {
        "id": "a",
        "audio": "a.wav",
        "speaker": "ann",
        "kind": "dialogue",
        "turn_start_s": 0.1,
        "pause_start_s": 0.8,
        "pause_end_s": None,
        "label": "end",
    }
    (tmp_path / "pauses.jsonl").write_text(json.dumps(pause) + "\n")
    (turn,) = read_turns(tmp_path / "pauses.jsonl")
    vad = Listening(320, [p for p, ms in ((0, 600), (1, 700), (0, 2000)) for _ in range(ms // 20)])
    said = say(turn, cast("WhisperPro", Knows(text)), vad, TurnOptions())
    assert said.text == text
    assert said.by_sound_s == pytest.approx(0.2, abs=0.03)
    assert (said.by_words_s is not None) == stops
    assert (said.asked == 1) == stops  # the "mm-hmm" is asked about again


def test_the_table_tells_both_kinds_apart() -> None:
    said = [
        Said(" Okay.", 0.4, None, 3, 0.6),
        Said(" Stop.", 0.3, 0.3, 1, 0.1),
        Said("", 0.3, None),
    ]
    lines = table(said).splitlines()
    assert [line.split(" | ")[1:] for line in lines[2:]] == [
        ["1", "1", "400 ms, p95 400 ms", "0", "", "3.0 times", "0.60 s |"],
        ["1", "1", "300 ms, p95 300 ms", "1", "300 ms, p95 300 ms", "1.0 times", "0.10 s |"],
    ]
    with pytest.raises(ConfigError, match="no words"):
        table([Said("", None, None)])
