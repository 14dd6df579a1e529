"""Whether speech may interrupt a reply is one fact, whoever says so and when. Time is by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hand_clock import HandClock
from reader import Reader
from scripted import OPTIONS, ScriptedDialogue, chunks, sound
from stand import Stand

from textpro_stream.commands import Configure
from textpro_stream.contracts import Message
from textpro_stream.events import Finished, ReplyAudio, ReplyEnded, ReplyGiven
from textpro_stream.pipeline.spoken_reply import LEAD_S

WORDS = [f" word{i}," for i in range(60)]  # six seconds of audio
WHOLE = "".join(WORDS)
VOICE = sound(("voice", 1.4))  # without words: less is taken for a cough


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def forbidding(stand: Stand, clock: HandClock) -> Stand:
    """A server with `[turn] barge_in = false`."""
    stand = stand.with_options(barge_in=False)
    return replace(stand, dialogue=ScriptedDialogue(pieces=list(WORDS)), clock=clock)


@pytest.mark.parametrize("heard_s", [2.5, 4.5])  # while it is given out, and when all of it was
async def test_where_a_client_allows_it_speech_stops_a_reply_that_sounds(
    forbidding: Stand, clock: HandClock, heard_s: float
) -> None:
    assert forbidding.dialogue is not None
    async with forbidding.open(live=True) as talk:
        reader = Reader(talk)
        await talk.push(Configure(turn=replace(OPTIONS, barge_in=True)))
        await talk.say("Tell me a story")
        await reader.until(ReplyAudio)
        clock.time = heard_s
        while reader.spoken_s < heard_s:  # what is heard was given out before
            await reader.until(ReplyAudio)
        if heard_s > 6.0 - LEAD_S:
            await reader.until(ReplyGiven)
        for chunk in chunks(VOICE):
            await talk.push(chunk)
        ended = await reader.until(ReplyEnded)
        assert isinstance(ended, ReplyEnded)
        assert ended.reason == "barge_in"
        assert WHOLE.startswith(ended.text)
        assert len(ended.text.split()) == pytest.approx(10 * heard_s, abs=1)
        await talk.finish()
        await reader.until(Finished)
    assert Message("a1", "assistant", ended.text) in forbidding.dialogue.messages


async def test_where_nobody_allows_it_a_reply_is_paced_and_heard_out_all_the_same(
    forbidding: Stand, clock: HandClock
) -> None:
    assert forbidding.dialogue is not None
    async with forbidding.open(live=True) as talk:
        reader = Reader(talk)
        await talk.say("Tell me a story")
        await reader.until(ReplyAudio)
        await reader.quiet()
        assert reader.spoken_s <= LEAD_S + 0.11
        for chunk in chunks(VOICE):
            await talk.push(chunk)
        clock.time = 4.5
        await reader.until(ReplyGiven)
        await reader.quiet()
        assert not [event for event in reader.events if isinstance(event, ReplyEnded)]
        clock.time = 6.1
        ended = await reader.until(ReplyEnded)
        assert isinstance(ended, ReplyEnded)
        assert (ended.reason, ended.text) == ("stop", WHOLE)
        await talk.finish()
        await reader.until(Finished)
    assert Message("a1", "assistant", WHOLE) in forbidding.dialogue.messages


async def test_what_a_client_forbids_counts_for_the_reply_that_sounds(
    forbidding: Stand, clock: HandClock
) -> None:
    async with forbidding.with_options(barge_in=True).open(live=True) as talk:
        reader = Reader(talk)
        await talk.say("Tell me a story")
        await reader.until(ReplyAudio)
        await talk.push(Configure(turn=replace(OPTIONS, barge_in=False)))
        for chunk in chunks(VOICE):
            await talk.push(chunk)
        clock.time = 4.5
        await reader.until(ReplyGiven)
        clock.time = 6.1
        ended = await reader.until(ReplyEnded)
        assert isinstance(ended, ReplyEnded)
        assert ended.reason == "stop"
