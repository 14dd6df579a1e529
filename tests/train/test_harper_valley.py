"""A tiny call in the form of the Harper Valley corpus, and the pauses that it gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.turns import read_turns
from textpro_stream.train.harper_valley import write_manifest

EARLIER_S = 2.0  # the agent's recording begins so much before the call
CALL = [  # side, seconds on the clock of the call, words as (text, seconds in the segment, length)
    ("agent", 1.0, [("hello", 0.0, 0.4), ("harper", 0.4, 0.4), ("bank", 1.2, 0.3)]),
    ("caller", 4.0, [("hi", 0.0, 0.3)]),
    ("caller", 5.0, [("my", 0.0, 0.2), ("number", 0.2, 0.4), ("is", 0.6, 0.2)]),
    ("agent", 5.9, [("okay", 0.0, 0.3)]),
    ("caller", 6.6, [("five", 0.0, 0.3), ("two", 0.3, 0.3)]),
    ("caller", 7.0, [("[noise]", 0.0, 0.2)]),
    ("agent", 8.0, [("thank", 0.0, 0.2), ("you", 0.2, 0.2)]),
    ("agent", 15.0, [("bye", 0.0, 0.3)]),
]


def segment(index: int, side: str, at_s: float, words: list[tuple[str, float, float]]) -> Any:
    start_ms = round(1000 * at_s)
    return {
        "channel_index": 1 + (side == "agent"),
        "speaker_role": side,
        "index": index,
        "start_ms": start_ms,
        "offset_ms": start_ms + (round(1000 * EARLIER_S) if side == "agent" else 0),
        "duration_ms": round(1000 * sum(words[-1][1:])),
        "human_transcript": " ".join(text for text, *_ in words),
        "transcript": "",
        "word_offsets_ms": [round(1000 * begin) for _, begin, _ in words],
        "word_durations_ms": [round(1000 * length) for *_, length in words],
    }


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    data = tmp_path / "corpus" / "data"
    for name in ("audio/agent", "audio/caller", "metadata", "transcript"):
        (data / name).mkdir(parents=True)
    for side in ("agent", "caller"):
        soundfile.write(data / "audio" / side / "ab12.wav", np.zeros(8000), 8000)
    told = [segment(i, *spoken) for i, spoken in enumerate(CALL)]
    (data / "transcript" / "ab12.json").write_text(json.dumps(told))
    who = {"agent": {"speaker_id": 40}, "caller": {"speaker_id": 60}}
    (data / "metadata" / "ab12.json").write_text(json.dumps(who))
    return tmp_path / "corpus"


def test_who_goes_on_tells_holds_from_ends(corpus: Path, tmp_path: Path) -> None:
    turns = read_turns(write_manifest(corpus, tmp_path / "out" / "pauses.jsonl"))
    found = {
        side: [
            (turn.start_s, pause.label, pause.start_s, pause.end_s)
            for turn in turns
            if turn.audio.parent.name == side
            for pause in turn.pauses
        ]
        for side in ("agent", "caller")
    }
    assert found["agent"] == [
        (3.0, "hold", pytest.approx(3.8), pytest.approx(4.2)),
        (3.0, "end", pytest.approx(4.5), None),
    ]  # "okay" took no turn, and nobody knows what seven seconds of silence were
    assert found["caller"] == [
        (4.0, "hold", pytest.approx(4.3), 5.0),
        (4.0, "hold", pytest.approx(5.8), 6.6),
        (4.0, "end", pytest.approx(7.2), None),
    ]
    assert {pause.speaker for turn in turns for pause in turn.pauses} == {
        "harper-valley-40",
        "harper-valley-60",
    }
    assert all(turn.audio.is_file() for turn in turns)


def test_other_folders_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is it the Harper Valley corpus"):
        write_manifest(tmp_path / "nothing", tmp_path / "pauses.jsonl")
    (corpus / "data" / "transcript" / "cd34.json").write_text("[{}]")
    with pytest.raises(ConfigError, match=r"cd34\.json: not a call"):
        write_manifest(corpus, tmp_path / "pauses.jsonl")
