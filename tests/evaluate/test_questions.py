"""Questions with options: our format, those of others, and what is wrong with a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from textpro_stream.config import SpeechOptions
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.questions import AFTER, OURS, Question, read_questions, speak_all

LINE = {"id": "q", "question": "What do bees make?", "options": ["honey", "wool"], "answer": "A"}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def clip(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(1600, 0.1, np.float32), SAMPLE_RATE)


def test_our_own_are_in_order_and_their_answers_are_spread() -> None:
    questions = read_questions(OURS)
    assert len(questions) == 36
    assert np.bincount([question.answer for question in questions]).tolist() == [9, 9, 9, 9]
    assert all(len(question.options) == 4 for question in questions)


def test_lines_of_ours_and_of_others_say_the_same(tmp_path: Path) -> None:
    clip(tmp_path / "a.wav")
    choices = {name: value for name, value in LINE.items() if name != "options"}
    original = {
        "id": "o",
        "question": {
            "stem": LINE["question"],
            "choices": [{"text": "honey", "label": "1"}, {"text": "wool", "label": "2"}],
        },
        "answerKey": "1",
    }
    path = write(
        tmp_path / "m.jsonl",
        LINE | {"audio": "a.wav"},
        choices | {"id": "c", "choices": LINE["options"]},
        original,
    )
    ours, theirs, first = read_questions(path)
    assert ours == Question("q", "What do bees make?", ("honey", "wool"), 0, tmp_path / "a.wav")
    assert theirs == Question("c", "What do bees make?", ("honey", "wool"), 0)
    assert first == Question("o", "What do bees make?", ("honey", "wool"), 0)


def test_a_folder_of_voicebench_is_read_with_its_subsets(tmp_path: Path) -> None:
    prompt = "What do bees make?\nA. wool\nB. honey, mostly\nC. a hive. Or two\n"
    for subset in ("mmsu", "openbookqa"):
        clip(tmp_path / subset / "0.wav")
        line = {"file_name": "0.wav", "prompt": prompt, "reference": "B"}
        write(tmp_path / subset / "metadata.jsonl", line)
    first, second = read_questions(tmp_path)
    assert (first.id, second.id) == ("mmsu-1", "openbookqa-1")
    assert first.text == prompt.strip()  # all of it is read out
    assert first.options == ("wool", "honey, mostly", "a hive. Or two")
    assert first.answer == 1
    assert first.audio == tmp_path / "mmsu" / "0.wav"
    assert len(read_questions(tmp_path / "mmsu")) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"question": " "}, "no question"),
        ({"options": ["honey"]}, "no options: two or more are needed"),
        ({"options": ["honey", ""]}, "an option is empty"),
        ({"options": ["honey", "honey "]}, "two options are the same"),
        ({"answer": "C"}, "answer 'C' is none of A, B"),
        ({"answer": 0}, "answer 0 is none of A, B"),
        ({"audio": "none.wav"}, "no file none.wav"),
        ({"id": "q"}, "id q is that of line 1"),
    ],
)
def test_faults_are_told_by_line(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = write(tmp_path / "m.jsonl", LINE, LINE | {"id": "r"} | change)
    with pytest.raises(ConfigError, match=f"line 2: {told}"):
        read_questions(path)


def test_faults_of_a_folder_are_told_by_line(tmp_path: Path) -> None:
    clip(tmp_path / "0.wav")
    good = {"file_name": "0.wav", "prompt": "Which? A) this B) that", "reference": "A"}
    write(tmp_path / "metadata.jsonl", good, good | {"prompt": "Why?"}, good | {"file_name": ""})
    with pytest.raises(ConfigError, match=r"line 2: no options.*; line 3: no audio"):
        read_questions(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ConfigError, match=r"no metadata\.jsonl in this folder"):
        read_questions(empty)


async def test_voices_read_out_what_nobody_recorded() -> None:
    question = Question("q", "What do bees make?", ("honey", "wool"), 0)
    spoken = await speak_all([question], SpeechOptions(), ["en-us", "en-gb"])
    assert [one.voice for one in spoken["q"]] == ["en-us", "en-gb"]
    for one in spoken["q"]:
        assert 0.5 < np.abs(one.samples).max() <= 1.5
        assert not one.samples[-AFTER:].any()
        assert 1.0 < len(one.samples) / SAMPLE_RATE < 4.0
    assert await speak_all([], SpeechOptions(), ["no such voice"]) == {}
    with pytest.raises(ConfigError, match="write it in words"):
        await speak_all([Question("q", "?!", ("a", "b"), 0)], SpeechOptions(), ["en-us"])
