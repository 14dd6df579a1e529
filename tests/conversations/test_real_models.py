"""The default models in a conversation: what the scripted ones promise holds for them."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
import soundfile
from scripted import chunks

from textpro_stream.contracts import AudioChunk
from textpro_stream.events import Event, ProsodyUpdated, TurnEnded, WordsCommitted
from textpro_stream.pipeline import Engine

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
