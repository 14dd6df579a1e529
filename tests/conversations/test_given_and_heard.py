"""When a reply is given out, when it is over, and who may cut that short. Time is by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hand_clock import HandClock
from reader import Reader
from scripted import OPTIONS, Script, ScriptedDialogue, chunks, sound
from stand import announce, respond

from textpro_stream.commands import Configure, Interrupt, Press, Release
from textpro_stream.contracts import Message, ReplyOptions, ToolCall
from textpro_stream.events import (
    Finished,
    ReplyAudio,
    ReplyEnded,
    ReplyGiven,
    ToolCalled,
    TurnEnded,
    TurnLatency,
)
from textpro_stream.pipeline.spoken_reply import LEAD_S

QUESTION = sound(("silence", 0.5), ("voice", 1.0), ("silence", 1.5))
WORDS = 60  # of the long reply: six seconds of audio


def long_winded() -> ScriptedDialogue:
    return ScriptedDialogue(pieces=[f" word{i}," for i in range(WORDS)])


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def talkative(stand, clock):
    return replace(stand, dialogue=long_winded(), clock=clock)


async def test_audio_is_never_given_out_far_ahead_of_the_loudspeaker(talkative, clock) -> None:
    async with talkative.open(live=True) as talk:
        reader = Reader(talk)
        await talk.say("Tell me a story")
        await reader.until(ReplyAudio)
        for heard_s in (0.0, 1.0, 2.5):
            clock.time = heard_s
            await reader.quiet()
            assert heard_s + LEAD_S <= reader.spoken_s <= heard_s + LEAD_S + 0.11
        clock.time = WORDS / 10
        await reader.until(ReplyGiven)
        assert reader.spoken_s == pytest.approx(WORDS / 10)


async def test_stopping_does_not_wait_for_the_pace(talkative) -> None:
    async with talkative.open(live=True) as talk:
        reader = Reader(talk)
        await talk.say("Tell me a story")
        await reader.until(ReplyAudio)
        await reader.quiet()
        await talk.push(Interrupt())
        ended = await reader.until(ReplyEnded)
        assert ended.reason == "cancelled"
        await reader.until(TurnLatency)
        assert not any(isinstance(e, ReplyGiven) for e in reader.events)


async def test_with_nobody_left_to_interrupt_a_reply_is_not_held_back(talkative, clock) -> None:
    """The audio ended: as before, what is still to be said comes as fast as it is made."""
    async with talkative.open(live=True) as talk:
        reader = Reader(talk)
        for chunk in chunks(QUESTION):
            await talk.push(chunk)
        await reader.until(ReplyAudio)
        await talk.finish()
        for _ in range(5):
            await asyncio.sleep(0.01)
            clock.time += 0.1  # for the chunk that was being waited for; the reply lasts 6 s
        assert (await reader.until(ReplyEnded)).reason == "stop"
        assert reader.spoken_s == pytest.approx(WORDS / 10)


async def test_a_new_reply_does_not_wait_until_the_last_one_was_heard(stand, clock) -> None:
    short = replace(stand, clock=clock)
    async with short.open(live=True) as talk:
        reader = Reader(talk)
        await talk.say("What time is it")
        given = await reader.until(ReplyGiven)
        assert "first_audio" in given.marks
        await reader.quiet()
        assert not any(isinstance(e, ReplyEnded) for e in reader.events)  # it is still playing
        turn = await respond(talk, ReplyOptions())
        first = await reader.until(ReplyEnded)
        assert (first.turn, first.reason, first.text) == (1, "stop", given.text)
        await reader.until(ReplyGiven, turn)
        announced = await announce(talk, "By the way, it rains.")
        await reader.until(ReplyEnded, turn)
        assert (await reader.until(ReplyGiven, announced)).text == "By the way, it rains."
        assert announced == turn + 1


async def test_what_was_called_is_remembered_though_the_words_were_not_heard_out(
    stand, clock
) -> None:
    call = ToolCall("lamp", "{}")
    stand.dialogue.calls = (call,)
    async with replace(stand, clock=clock).open(live=True) as talk:
        reader = Reader(talk)
        await talk.say("Light, please")
        await reader.until(ToolCalled)
        await reader.until(ReplyGiven)
        await talk.push(Interrupt("barge_in"))
        ended = await reader.until(ReplyEnded)
        await reader.until(TurnLatency)
        assert (ended.reason, ended.text) == ("barge_in", "")
        await talk.finish()
        await reader.until(Finished)
    assert stand.dialogue.closed
    assert stand.dialogue.messages[-1] == Message("a1", "assistant", "", (call,))


async def test_what_was_asked_for_can_be_stopped_before_it_begins(talkative) -> None:
    async with talkative.open(live=True) as talk:
        reader = Reader(talk)
        first = await respond(talk)
        second = await respond(talk)
        await reader.until(ReplyAudio, first)
        await talk.push(Interrupt())
        for turn in (first, second):
            ended = await reader.until(ReplyEnded, turn)
            assert ended.reason == "cancelled"
            await reader.until(TurnLatency, turn)
        assert not any(isinstance(e, ReplyAudio) and e.turn == second for e in reader.events)
        third = await announce(talk, "Still here.")  # and later ones are not stopped with it
        assert (await reader.until(ReplyGiven, third)).text == "Still here."


async def test_without_interruptions_speech_neither_stops_nor_ducks(talkative, clock) -> None:
    talkative.script = Script([(" Stop", 0.8)])
    async with talkative.open(live=True) as talk:
        reader = Reader(talk)
        await talk.push(Configure(turn=replace(OPTIONS, barge_in=False), replies=False))
        turn = await announce(talk, " ".join(["word"] * WORDS))
        await reader.until(ReplyAudio)
        for chunk in chunks(QUESTION):
            await talk.push(chunk)
        await talk.push(Press(interrupts=False))
        await talk.push(Release())
        clock.time = WORDS / 10 + 1
        ended = await reader.until(ReplyEnded, turn)
        assert ended.reason == "stop"
        await talk.finish()
        said = await reader.until(TurnEnded) if not _ended(reader) else _ended(reader)[0]
        assert (said.transcript, said.replies) == (" Stop", False)
        names = {type(e).__name__ for e in reader.events}
        assert not {"ReplyDucked", "TurnEager"} & names


def _ended(reader: Reader) -> list[TurnEnded]:
    return [e for e in reader.events if isinstance(e, TurnEnded)]
