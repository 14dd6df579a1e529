from __future__ import annotations

from collections.abc import Iterator

import pytest
from scripted import Script, chunks, sound
from stand import Stand

from textpro_stream.commands import Rest
from textpro_stream.events import ReplyEnded, TurnEager
from textpro_stream.runtime.device import DeviceThread

WORDS = [(" Hello", 0.8), (" you", 1.2)]


@pytest.fixture
def stand() -> Iterator[Stand]:
    device = DeviceThread("test device")
    yield Stand(device, Script(WORDS))
    device.close()


async def test_a_talk_at_rest_holds_no_rows_and_goes_on(stand: Stand) -> None:
    async with stand.open() as talk:
        await talk.say("hello")
        async for event in talk:
            if isinstance(event, ReplyEnded):
                break
        assert talk.tokens_cached > 0
        await talk.push(Rest())
        await talk.say("again")
        async for event in talk:
            if isinstance(event, ReplyEnded):
                break
    assert stand.dialogue is not None
    assert stand.dialogue.begun == ["hello", "again"]
    assert talk.tokens_cached == 0


async def test_a_draft_that_stands_is_not_taken_for_rest(stand: Stand) -> None:
    assert stand.dialogue is not None
    async with stand.open(live=True) as talk:
        speech = chunks(sound(("silence", 0.5), ("voice", 1.0), ("silence", 1.2)))
        paused = False
        for chunk in speech:
            await talk.push(chunk)
            if chunk.end > 16_000 * 1.9 and not paused:
                paused = True
                async for event in talk:
                    if isinstance(event, TurnEager):
                        break
                await talk.push(Rest())
        await talk.finish()
        events = [event async for event in talk]
        rests = stand.dialogue.rests
    assert [e.reason for e in events if isinstance(e, ReplyEnded)] == ["stop"]
    assert rests == 0
    assert stand.dialogue.begun == [" Hello you"]
