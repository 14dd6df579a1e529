"""The shipped head on speech that the default recogniser hears: pauses are waited out, ends not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from textpro_stream.audio.files import FileSource
from textpro_stream.config import Settings, TurnOptions
from textpro_stream.contracts import seconds
from textpro_stream.events import TurnEnded
from textpro_stream.pipeline.engine import Engine

pytestmark = pytest.mark.weights

CLIPS = Path(__file__).parents[1] / "data"


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with await Engine.load(replies=False) as engine:
        yield engine


async def ends(engine: Engine, clip: str, turn: TurnOptions) -> list[tuple[str, float]]:
    """Words and second of each turn that ended by itself."""
    async with engine.open(settings=Settings(turn=turn), live=False) as talk:
        for chunk in FileSource(CLIPS / f"{clip}.flac").chunks():
            await talk.push(chunk)
        await talk.finish()
        return [
            (event.transcript, seconds(event.at))
            async for event in talk
            if isinstance(event, TurnEnded) and event.reason != "end_of_audio"
        ]


async def test_a_thinking_pause_is_waited_for_where_few_may_be_cut(engine: Engine) -> None:
    turns = await ends(engine, "thinking_pause", TurnOptions(false_cutoffs=0.1))
    assert ["fastest" in words for words, _ in turns] == [True]


async def test_questions_end_sooner_with_a_larger_budget(engine: Engine) -> None:
    strict, usual, hasty = [
        await ends(engine, "two_questions", TurnOptions(false_cutoffs=budget))
        for budget in (0.1, 0.2, 0.4)
    ]
    assert len(strict) == len(usual) == len(hasty) == 2
    times = [[at for _, at in turns] for turns in (strict, usual, hasty)]
    assert all(a >= b >= c for a, b, c in zip(*times, strict=True))
    assert times[2][0] < times[0][0]
