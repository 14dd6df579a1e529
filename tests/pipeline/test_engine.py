"""What is loaded, from where, and what is left behind when it cannot be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from textpro_stream import speech, store, turn, whisper
from textpro_stream.config import (
    DeviceOptions,
    Settings,
    SpeechOptions,
    TurnOptions,
    WhisperOptions,
)
from textpro_stream.errors import DeviceError, WeightsError
from textpro_stream.pipeline import Engine
from textpro_stream.pipeline import engine as module
from textpro_stream.runtime.hardware import physical_cores, torch_device


class Recogniser(str):
    """Knows where it was loaded from."""

    fingerprint = "nothing is shipped for it"
    d_prosody = 4


class Voice:
    closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Models asked of the store, which has them all; the recognizer is a name."""
    asked: list[tuple[str, str]] = []

    def resolve(name: str, kind: str, **_: object) -> Path:
        asked.append((kind, name))
        return Path("models") / name

    monkeypatch.setattr(store, "resolve", resolve)
    monkeypatch.setattr(
        whisper.WhisperPro, "load", lambda folder, *_: Recogniser(f"asr of {folder}")
    )
    monkeypatch.setattr(module, "load_vad", lambda options, folder: turn.load_vad(WEBRTC.turn))
    return asked


WEBRTC = Settings(turn=TurnOptions(vad="webrtc"))


async def test_without_replies_neither_llm_nor_voice_is_loaded(wanted) -> None:
    async with await Engine.load(replies=False) as engine:
        assert sorted(wanted) == [("vad", "silero-vad"), ("whisper", "tiny.en")]
        assert str(engine.asr) == "asr of models/tiny.en"
        assert engine.llm is None
        assert engine.voice is None


async def test_a_detector_without_weights_asks_for_none(wanted) -> None:
    async with await Engine.load(WEBRTC, replies=False):
        assert wanted == [("whisper", "tiny.en")]


@pytest.mark.parametrize(("released", "vector"), [(True, "middle"), (False, "auto")])
async def test_a_textpro_checkpoint_gets_the_vector_it_was_trained_with(
    wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, released: bool, vector: str
) -> None:
    asked: list[WhisperOptions] = []

    def load(folder: Path, options: WhisperOptions, *_: object) -> Recogniser:
        asked.append(options)
        return Recogniser("asr")

    def fail(*_: object, **__: object) -> None:
        raise WeightsError("far enough")

    if released:
        (tmp_path / "textpro_config.json").write_text("{}")
    monkeypatch.setattr(store, "resolve", lambda *_, **__: tmp_path)
    monkeypatch.setattr(whisper.WhisperPro, "load", load)
    monkeypatch.setattr("textpro_stream.llm.LanguageModel.load", fail)
    with pytest.raises(WeightsError, match="far enough"):
        await Engine.load(WEBRTC, speech=False)
    assert [options.prosody for options in asked] == [vector]


async def test_a_failed_load_is_the_failure_itself_and_leaves_no_voice(
    wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice = Voice()

    async def open_voice(options: SpeechOptions) -> Voice:
        return voice

    def fail(*_: object, **__: object) -> None:
        raise WeightsError("the marker is not in the tokenizer")

    monkeypatch.setattr(speech, "open_voice", open_voice, raising=False)
    monkeypatch.setattr("textpro_stream.llm.LanguageModel.load", fail)
    before = asyncio.all_tasks()
    with pytest.raises(WeightsError, match="marker"):
        await Engine.load(WEBRTC)
    assert voice.closed
    assert asyncio.all_tasks() == before


async def test_a_piper_voice_comes_out_of_the_store(wanted, monkeypatch) -> None:
    opened: list[str] = []

    async def open_voice(options: SpeechOptions) -> Voice:
        opened.append(options.voice)
        return Voice()

    monkeypatch.setattr(speech, "open_voice", open_voice, raising=False)
    monkeypatch.setattr("textpro_stream.llm.LanguageModel.load", lambda *_, **__: None)
    piper = SpeechOptions(engine="piper", voice="en_US-lessac-medium")
    async with await Engine.load(Settings(speech=piper)):
        assert ("voice", "en_US-lessac-medium") in wanted
        assert opened == [str(Path("models") / "en_US-lessac-medium")]


@pytest.mark.parametrize("name", ["cuda", "cuda:99", "tpu", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError) as refusal:
        torch_device(DeviceOptions(name=name))
    assert "\n" not in str(refusal.value)


def test_auto_is_the_cpu_without_a_gpu(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert torch_device(DeviceOptions(threads=1)).type == "cpu"
    assert physical_cores() >= 1
