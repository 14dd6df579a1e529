"""The real espeak-ng in its real process: it starts in a tenth of a second."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from textpro_stream.config import SpeechOptions
from textpro_stream.contracts import SpokenChunk
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.speech import voice as module
from textpro_stream.speech.voice import Voice, open_voice

TEXT = "The capital of France is Paris, and many people go there to see its old streets."


@pytest_asyncio.fixture
async def voice() -> AsyncIterator[Voice]:
    opened = await open_voice(SpeechOptions())
    yield opened
    await opened.close()


async def spoken(voice: Voice, text: str, **where: int) -> list[SpokenChunk]:
    return [chunk async for chunk in voice.speak(text, **where)]


def check(chunks: list[SpokenChunk], rate_hz: int, start: int = 0) -> None:
    assert chunks[0].start == start
    assert all(b.start == a.start + len(a.samples) for a, b in itertools.pairwise(chunks))
    assert all(a.text_end <= b.text_end for a, b in itertools.pairwise(chunks))
    assert all(0 < len(c.samples) <= rate_hz / 10 for c in chunks)
    assert {c.rate_hz for c in chunks} == {rate_hz}


async def test_it_speaks_in_short_chunks_that_know_their_text(voice: Voice) -> None:
    assert voice.rate_hz == 22_050
    chunks = await spoken(voice, TEXT, start=500, text_start=30)
    check(chunks, 22_050, start=500)
    assert chunks[-1].text_end == 30 + len(TEXT)
    loud = max(float(np.abs(chunk.samples).max()) for chunk in chunks)
    assert 0.2 < loud <= 1.0
    # Text and time run along together: half the sound is about half the text.
    half = chunks[len(chunks) // 2].text_end - 30
    assert 0.35 * len(TEXT) < half < 0.65 * len(TEXT)


async def test_marks_fall_on_words(voice: Voice) -> None:
    # "stop" ends where the pause of the full stop begins: marks come from the synthesiser.
    chunks = await spoken(voice, "Stop. **Extraordinarily** uncharacteristically.")
    before = next(i for i, c in enumerate(chunks) if c.text_end > len("Stop. **"))
    samples = sum(len(c.samples) for c in chunks[:before])
    alone = sum(len(c.samples) for c in await spoken(voice, "Stop."))
    assert samples == pytest.approx(alone, abs=0.1 * 22_050)


@pytest.mark.parametrize("text", ["", " ", "😀", "---", "..."])
async def test_what_cannot_be_said_makes_no_sound(voice: Voice, text: str) -> None:
    assert await spoken(voice, text) == []


async def test_a_clause_cut_between_words_ends_without_a_pause(voice: Voice) -> None:
    def silence(chunks: list[SpokenChunk]) -> int:
        samples = np.concatenate([c.samples for c in chunks])
        return len(samples) - int(np.flatnonzero(np.abs(samples) > 0.01)[-1])

    cut = silence(await spoken(voice, "The sky is blue"))
    ended = silence(await spoken(voice, "The sky is blue."))
    assert ended > cut + 0.15 * 22_050


async def test_closing_the_iterator_stops_at_once(voice: Voice) -> None:
    loop = asyncio.get_running_loop()
    async with aclosing(voice.speak(TEXT * 20)) as chunks:
        await anext(chunks)
        before = loop.time()
    assert loop.time() - before < 0.05
    check(await spoken(voice, TEXT), 22_050)  # nothing of the old clause is left


async def test_two_replies_can_be_spoken_at_once(voice: Voice) -> None:
    both = await asyncio.gather(spoken(voice, TEXT), spoken(voice, "Yes, it is."))
    for chunks in both:
        check(chunks, 22_050)
    assert both[1][-1].text_end == len("Yes, it is.")


async def test_a_crash_is_mended_within_the_clause(voice: Voice) -> None:
    whole = sum(len(c.samples) for c in await spoken(voice, TEXT * 10))
    first, chunks = voice.pid, []
    async for chunk in voice.speak(TEXT * 10):
        chunks.append(chunk)
        if len(chunks) == 3:
            assert first is not None
            os.kill(first, signal.SIGKILL)
    check(chunks, 22_050)
    assert chunks[-1].text_end == len(TEXT * 10)
    # Of the same process, espeak-ng makes a sentence some samples longer or shorter.
    assert sum(len(c.samples) for c in chunks) == pytest.approx(whole, rel=0.01)


async def test_a_crash_between_clauses_is_not_noticed(voice: Voice) -> None:
    assert voice.pid is not None
    os.kill(voice.pid, signal.SIGKILL)
    check(await spoken(voice, TEXT), 22_050)


async def test_a_worker_that_hangs_is_replaced(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "_hangs_s", 0.2)
    assert voice.pid is not None
    os.kill(voice.pid, signal.SIGSTOP)
    check(await spoken(voice, TEXT), 22_050)


async def test_cancelling_a_worker_that_hangs_is_prompt_and_the_next_clause_finds_another(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "_hangs_s", 0.1)
    loop, stuck = asyncio.get_running_loop(), voice.pid
    assert stuck is not None
    async with aclosing(voice.speak(TEXT * 20)) as chunks:
        await anext(chunks)
        os.kill(stuck, signal.SIGSTOP)
        before = loop.time()
    assert loop.time() - before < 0.05
    await asyncio.gather(*voice._watching)
    assert voice.pid not in (None, stuck)
    check(await spoken(voice, TEXT), 22_050)


async def test_a_clause_stopped_after_it_was_made_leaves_the_worker_alone(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "_hangs_s", 0.1)
    first, process = voice.pid, await voice.ready()
    async with aclosing(voice.speak(TEXT)) as chunks:
        await anext(chunks)
        while not process._over:  # noqa: ASYNC110  # made, not read: nothing announces that
            await asyncio.sleep(0.01)
    await asyncio.gather(*voice._watching)
    check(await spoken(voice, TEXT), 22_050)
    assert voice.pid == first


async def test_a_text_that_kills_twice_is_given_up(
    voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice, "_hangs_s", 0.1)

    async def deadly(process: module.Process, utterance: int) -> module.Message:
        os.kill(process.pid, signal.SIGKILL)
        while True:
            await process.next_message(utterance)

    monkeypatch.setattr(voice, "_message", deadly)
    with pytest.raises(StageError, match="twice"):
        await spoken(voice, TEXT)


async def test_a_worker_that_cannot_start_again_is_a_stage_error(voice: Voice) -> None:
    assert voice.pid is not None
    os.kill(voice.pid, signal.SIGKILL)
    voice._arguments = ("espeak", "en-us", "not a number")
    with pytest.raises(StageError, match="did not start"):
        await spoken(voice, TEXT)


async def test_a_closed_voice_speaks_no_more(voice: Voice) -> None:
    chunks = voice.speak(TEXT * 20)
    await anext(chunks)
    await voice.close()
    assert voice.pid is None
    with pytest.raises(StageError, match="closed"):
        await spoken(voice, TEXT)
    await chunks.aclose()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (SpeechOptions(voice="xx-nowhere"), "no voice 'xx-nowhere'"),
        (SpeechOptions(voice="en-us+nobody"), "no voice variant 'nobody'"),
        (SpeechOptions(engine="none"), "choose espeak"),
        (SpeechOptions(engine="piper", voice="no/such/voice.onnx"), "no Piper voice"),
    ],
)
async def test_a_voice_that_cannot_be_had_is_one_line(options: SpeechOptions, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        await open_voice(options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["en-gb", "en-gb+f2", "de"])
async def test_languages_and_variants_are_found(name: str) -> None:
    voice = await open_voice(SpeechOptions(voice=name))
    check(await spoken(voice, "Hello"), 22_050)
    await voice.close()


async def test_without_espeak_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "espeakng_loader.py").write_text(
        "def get_library_path(): return 'nowhere.so'\ndef get_data_path(): return ''\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigError, match="pip install espeakng-loader"):
        await open_voice(SpeechOptions())


PIPER = """
from types import SimpleNamespace

class SynthesisConfig:
    def __init__(self, length_scale): self.length_scale = length_scale

class PiperVoice:
    config = SimpleNamespace(sample_rate=16000)

    @classmethod
    def load(cls, model):
        print("a library that prints")
        if open(model).read() == "broken": raise ValueError("not a\\nmodel")
        return cls()

    def synthesize(self, text, config):
        for word in text.split():
            n = int(len(word) * 1000 * config.length_scale)
            yield SimpleNamespace(audio_int16_bytes=b"\\x00\\x20" * n)
"""


@pytest.fixture
def piper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a voice for a stand-in of piper-tts."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "piper.py").write_text(PIPER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    (tmp_path / "voice").mkdir()
    (tmp_path / "voice" / "amy.onnx").write_text("")
    (tmp_path / "voice" / "amy.onnx.json").write_text("{}")
    return tmp_path / "voice"


async def test_a_piper_voice_speaks(piper: Path) -> None:
    for path in (piper, piper / "amy.onnx"):
        voice = await open_voice(SpeechOptions(engine="piper", voice=str(path), rate_wpm=330))
        chunks = await spoken(voice, "one **two**", start=7, text_start=3)
        await voice.close()
        check(chunks, 16_000, start=7)
        assert sum(len(c.samples) for c in chunks) == 3_500  # and a comma, at double speed
        assert chunks[-1].text_end == 3 + len("one **two**")
        assert chunks[0].samples[0] == 0.25


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda f: (f / "amy.onnx.json").unlink(), "missing"),
        (lambda f: (f / "bob.onnx").write_text(""), "holds 2 voices"),
        (lambda f: (f / "amy.onnx").write_text("broken"), "no Piper voice"),
        (lambda f: (f.parent / "lib" / "piper.py").write_text("import nowhere"), "pip install pip"),
    ],
)
async def test_a_piper_voice_that_cannot_be_had_is_one_line(
    piper: Path, break_it: object, says: str
) -> None:
    assert callable(break_it)
    break_it(piper)
    with pytest.raises(ConfigError, match=says) as caught:
        await open_voice(SpeechOptions(engine="piper", voice=str(piper)))
    assert "\n" not in str(caught.value)
