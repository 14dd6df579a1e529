"""The default models in a conversation: what the scripted ones promise holds for them."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
import soundfile
import soxr
from scripted import chunks

from textpro_stream.config import LlmOptions, Settings
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.events import (
    Event,
    ProsodyUpdated,
    ReplyGiven,
    TurnEager,
    TurnEnded,
    TurnTone,
    WordsCommitted,
)
from textpro_stream.pipeline import Engine
from textpro_stream.speech.espeak import Espeak

pytestmark = pytest.mark.weights


def told(events: list[Event]) -> list[tuple[object, ...]]:
    seen: list[tuple[object, ...]] = []
    for event in events:
        match event:
            case WordsCommitted(spans=spans):
                seen += [("word", event.at, s.text, s.start, s.end) for s in spans]
            case ProsodyUpdated(window=w):
                seen.append(("tone", event.at, w.start, w.f0_hz, w.embedding.tobytes()))
            case TurnEnded():
                seen.append(("end", event.at, event.transcript, event.reason))
            case _:
                pass
    return seen


async def test_cutting_differently_changes_nothing() -> None:
    samples, _ = soundfile.read(str(files("textpro_stream") / "assets" / "question.flac"))
    audio = np.tile(samples.astype(np.float32), 2)

    async with await Engine.load(replies=False) as engine:

        async def run(parts: list[AudioChunk], *, live: bool) -> list[Event]:
            async with engine.open(live=live) as talk:
                for part in parts:
                    await talk.push(part)
                await talk.finish()
                return [event async for event in talk]

        whole = told(await run([AudioChunk(audio, 0)], live=False))
        assert [entry[0] for entry in whole].count("end") == 2
        assert told(await run(chunks(audio, [7, 333, 20_001, 20_002, 77_777]), live=False)) == whole
        assert told(await run(chunks(audio, range(0, len(audio), 601)), live=True)) == whole


async def test_a_question_in_an_even_voice_is_answered_as_if_nobody_had_heard_how() -> None:
    samples, _ = soundfile.read(str(files("textpro_stream") / "assets" / "question.flac"))
    answers: list[str] = []
    for fusion in ("auto", "text"):
        settings = Settings(llm=LlmOptions(fusion=fusion))
        async with (
            await Engine.load(settings, speech=False) as engine,
            engine.open(live=False) as talk,
        ):
            await talk.push(AudioChunk(samples.astype(np.float32), 0))
            await talk.finish()
            events = [event async for event in talk]
        assert [event.tone.named for event in events if isinstance(event, TurnTone)] == ["unsure"]
        assert [event for event in events if isinstance(event, TurnEager)]
        answers += [event.text for event in events if isinstance(event, ReplyGiven)]
    assert len(answers) == 2
    assert answers[0] == answers[1]


FOREIGN = [
    ("fr", "Bonjour, quelle heure est-il à Tardigrade, s'il vous plaît?"),
    ("de", "Gestern habe ich im Wohnzimmer vergeblich meine Schlüssel gesucht."),
    ("pl", "Proszę powiedzieć, kiedy odjeżdża następny pociąg do Krakowa."),
    ("it", "Vorrei sapere quanto costa un biglietto per la metropolitana."),
]


async def test_another_language_is_not_answered_as_if_it_were_english() -> None:
    reasons = []
    async with await Engine.load(replies=False) as engine:
        for language, text in FOREIGN:
            said: list[bytes] = []
            voice = Espeak(language)
            voice.speak(text, False, 165, lambda audio, to=said: not to.append(audio), lambda *_: 0)
            samples = np.frombuffer(b"".join(said), np.int16).astype(np.float32) / 2**15
            samples = soxr.resample(samples, voice.rate_hz, SAMPLE_RATE)
            async with engine.open(live=False) as talk:
                await talk.push(AudioChunk(np.pad(samples, SAMPLE_RATE).astype(np.float32), 0))
                await talk.finish()
                reasons += [event.reason async for event in talk if isinstance(event, TurnEnded)]
    assert reasons.count("unclear") >= len(FOREIGN) / 2
