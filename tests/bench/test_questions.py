from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from textpro_stream.audio.wav import WavWriter
from textpro_stream.bench import questions
from textpro_stream.bench.questions import (
    TOLERANCE,
    nearest,
    recorded_questions,
    spoken_questions,
    texts,
    trimmed,
)
from textpro_stream.config import Settings
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import ConfigError


def test_texts_differ_and_hold_no_mark_that_would_make_a_pause() -> None:
    combined = [" ".join(parts) for parts in texts()]
    assert len(set(combined)) == len(combined) >= 20
    assert not any(mark in text for text in combined for mark in ",.;:?!|")


def test_trimmed_audio_begins_and_ends_with_sound() -> None:
    audio = np.zeros(1000, np.float32)
    audio[100:200] = 0.5
    assert len(trimmed(audio)) == 100
    assert len(trimmed(np.zeros(10, np.float32))) == 0


@pytest.mark.parametrize(("length", "group"), [(0.4, 2), (3.0, 2), (3.4, 5), (7.5, 10), (60, 20)])
def test_clips_are_listed_with_the_nearest_length(length: float, group: float) -> None:
    assert nearest(length, (2, 5, 10, 20)) == group


async def test_spoken_questions_differ_keep_their_length_and_end_with_their_speech() -> None:
    made = await spoken_questions(Settings(), (1.5, 3.0), 4)
    assert [question.group for question in made] == ["1.5 s", "3 s"] * 4
    for length in (1.5, 3.0):
        mine = [question for question in made if question.group == f"{length:g} s"]
        assert len({question.text for question in mine}) == 4
        for question in mine:
            assert abs(len(question.audio) / SAMPLE_RATE / length - 1) <= TOLERANCE
            assert question.speech_end == len(question.audio)
            assert abs(question.audio[-1]) > questions.AUDIBLE
            assert question.label == "synthesis"


async def test_more_questions_than_can_be_made_are_refused() -> None:
    with pytest.raises(ConfigError, match="--each"):
        await spoken_questions(Settings(), (0.6,), 30)


@pytest.fixture
def manifest(tmp_path):
    """A clip of a second of tone in two of silence, twice: with a label and without."""
    audio = np.zeros(3 * SAMPLE_RATE, np.float32)
    audio[SAMPLE_RATE : 2 * SAMPLE_RATE] = 0.4 * np.sin(np.arange(SAMPLE_RATE) * 0.2)
    with WavWriter(tmp_path / "a.wav", SAMPLE_RATE) as clip:
        clip.write(audio)
    lines = [{"id": "a", "audio": "a.wav", "text": "yes", "speech_end_s": 1.9}]
    lines.append({"id": "b", "audio": "a.wav", "text": "yes"})
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_a_manifests_label_is_used_and_what_has_none_is_estimated(manifest) -> None:
    settings = Settings()
    settings = replace(settings, turn=replace(settings.turn, vad="webrtc"))
    labelled, estimated = recorded_questions(settings, manifest, (2, 5), 10)
    assert (labelled.label, labelled.speech_end) == ("manifest", round(1.9 * SAMPLE_RATE))
    assert (estimated.label, estimated.group) == ("vad", "2 s")
    assert len(estimated.audio) == estimated.speech_end
