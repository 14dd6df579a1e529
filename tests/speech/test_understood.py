"""Whether the default voice can be understood: tiny.en listens to it."""

from __future__ import annotations

import jiwer
import numpy as np
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from textpro_stream.audio.resample import Resampler
from textpro_stream.config import SpeechOptions
from textpro_stream.contracts import AudioChunk
from textpro_stream.events import TurnEnded
from textpro_stream.pipeline import Engine
from textpro_stream.speech import open_voice

REPLIES = [
    "Sure! Photosynthesis is the process by which plants use sunlight to make sugar.",
    "The capital of France is **Paris**. It is famous for its art and its food.",
    "You could visit Rome first, and stay there for about four days.",
]


@pytest.mark.weights
async def test_the_default_voice_is_understood() -> None:
    voice, heard = await open_voice(SpeechOptions()), []
    async with await Engine.load(replies=False) as engine:
        for reply in REPLIES:
            spoken = [chunk.samples async for chunk in voice.speak(reply)]
            resampler = Resampler(voice.rate_hz)
            audio = [resampler.push(np.concatenate(spoken)), resampler.finish()]
            audio.append(np.zeros(24_000, np.float32))
            async with engine.open(live=False) as talk:
                await talk.push(AudioChunk(np.concatenate(audio), 0))
                await talk.finish()
                heard.append(
                    "".join([e.transcript async for e in talk if isinstance(e, TurnEnded)])
                )
    await voice.close()
    normal = EnglishTextNormalizer()
    assert jiwer.wer([*map(normal, REPLIES)], [*map(normal, heard)]) < 0.25, heard
