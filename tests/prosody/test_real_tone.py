"""The shipped readout with the default recogniser: found, told, and better than chance.

It was trained on these speakers: what it is worth for others is in docs/notes/0013.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import soundfile

from textpro_stream.config import ProsodyOptions, Settings
from textpro_stream.contracts import AudioChunk
from textpro_stream.evaluate.said import read_labelled
from textpro_stream.events import Event, ProsodyUpdated, TurnEnded, TurnTone
from textpro_stream.pipeline import Engine

pytestmark = pytest.mark.weights

SHARED = Path(__file__).parents[3] / "shared" / "data" / "train" / "manifest.jsonl"
LABELS = {"anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"}


async def heard(audio: np.ndarray, settings: Settings | None = None) -> list[Event]:
    async with (
        await Engine.load(settings, replies=False) as engine,
        engine.open(live=False) as talk,
    ):
        await talk.push(AudioChunk(audio.astype(np.float32), 0))
        await talk.finish()
        return [event async for event in talk]


def question() -> np.ndarray:
    samples, _ = soundfile.read(str(files("textpro_stream") / "assets" / "question.flac"))
    return samples


async def test_a_conversation_tells_the_tone_of_each_turn() -> None:
    events = await heard(np.tile(question(), 2))
    kinds = [type(event) for event in events if isinstance(event, TurnTone | TurnEnded)]
    assert kinds == [TurnTone, TurnEnded] * 2
    first, second = [event.tone for event in events if isinstance(event, TurnTone)]
    assert set(first.emotion) == LABELS
    assert sum(first.emotion.values()) == pytest.approx(1)
    assert first.pitch is None
    # the same sound once more is as ever
    assert second.pitch is None or abs(second.pitch) < 1
    assert second.pace is None or second.pace == pytest.approx(1, abs=0.3)


async def test_nothing_is_told_where_it_is_switched_off() -> None:
    events = await heard(question(), Settings(prosody=ProsodyOptions(tone=False)))
    assert not [event for event in events if isinstance(event, TurnTone)]
    windows = [event.window for event in events if isinstance(event, ProsodyUpdated)]
    assert windows
    assert all(window.tone is None for window in windows)


@pytest.mark.skipif(not SHARED.exists(), reason="wants development speech that is not public")
async def test_actors_sound_as_they_were_told_to() -> None:
    wanted = [c for c in read_labelled(SHARED) if c.emotion in ("anger", "sadness")][::12]
    right = 0
    async with await Engine.load(replies=False) as engine:
        for clip in wanted:
            samples, _ = soundfile.read(clip.audio, dtype="float32")
            async with engine.open(live=False) as talk:
                await talk.push(AudioChunk(samples, 0))
                await talk.finish()
                tones = [e.tone async for e in talk if isinstance(e, TurnTone)]
            right += bool(tones) and (tones[0].emotion["anger"] > tones[0].emotion["sadness"]) == (
                clip.emotion == "anger"
            )
    assert right >= 0.8 * len(wanted)
