"""Manifests of labelled speech, and what is kept of hearing them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_whisper import listening_model, melody, save

from textpro_stream.config import WhisperOptions
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.said import N_ACOUSTICS, PLAIN, hear, read_labelled
from textpro_stream.whisper import WhisperPro

LINE = {"id": "a", "audio": "a.wav", "speaker": "s", "emotion": "anger", "source": "Ours (here)"}


def write(folder: Path, *lines: dict[str, object] | str) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    for i, name in enumerate(("a.wav", "b.wav")):
        soundfile.write(folder / name, melody(4.0, i), 16_000)
    return path


def test_an_emotion_that_nobody_knows_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, LINE, {**LINE, "id": "f", "emotion": "envy"})
    with pytest.raises(ConfigError, match="line 2: emotion 'envy' is none of anger"):
        read_labelled(path, labels=("anger",))


def test_lines_without_an_emotion_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path, LINE, {"id": "b", "audio": "nowhere", "text": "only words"})
    (clip,) = read_labelled(path)
    assert (clip.id, clip.corpus, clip.line) == ("a", "Ours", 1)
    path = write(tmp_path, LINE, *({**LINE, "id": f"p{i}", "emotion": None} for i in range(9)))
    some = read_labelled(path, plain=3)
    assert [clip.emotion for clip in some] == ["anger", PLAIN, PLAIN, PLAIN]
    with pytest.raises(ConfigError, match="no clips with an emotion"):
        read_labelled(write(tmp_path, {"id": "b", "audio": "b.wav"}))


def test_what_was_heard_is_heard_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save(listening_model(), tmp_path / "model")
    whisper = WhisperPro.load(
        model, WhisperOptions(block_ms=320, look_ahead_ms=160), torch.device("cpu")
    )
    path = write(tmp_path, LINE, {**LINE, "id": "b", "audio": "b.wav"})
    clips, cache = read_labelled(path), tmp_path / "heard.npz"
    first = hear(clips, whisper, name="one", cache=cache)
    assert [len(one.states) for one in first] == [len(one.ids) for one in first]
    assert first[0].states.shape[1] == whisper.d_prosody
    assert first[0].acoustics.shape == (N_ACOUSTICS,)

    def deaf(*_: object, **__: object) -> None:
        raise AssertionError("it was heard before")

    monkeypatch.setattr(WhisperPro, "open", deaf)
    again = hear(clips, whisper, name="one", cache=cache)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_allclose(one.states, other.states, atol=2e-3)
        assert one.ids == other.ids
    with pytest.raises(AssertionError, match="heard before"):
        hear(clips, whisper, name="another recogniser", cache=cache)
