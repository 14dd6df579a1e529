"""What whoever holds a conversation can tell it, beside feeding audio."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from scripted import OPTIONS, Script, ScriptedDialogue, ScriptedVoice, chunks, sound
from stand import Stand, announce, respond

from textpro_stream.clock import VirtualClock
from textpro_stream.commands import (
    Add,
    Clear,
    Configure,
    Interrupt,
    Press,
    Release,
    Remove,
    Truncate,
)
from textpro_stream.contracts import Message, ReplyOptions, Tool, ToolCall
from textpro_stream.errors import StageError
from textpro_stream.events import (
    Event,
    Failed,
    Finished,
    ReplyAudio,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    ToolCalled,
    TurnEager,
    TurnEnded,
    TurnLatency,
    WordsCommitted,
)
from textpro_stream.pipeline.conversation import Conversation

QUESTION = sound(("silence", 0.5), ("voice", 1.0), ("silence", 1.5))
LAMP = Tool("lamp", "switches the lamp", "{}")


def of(events: list[Event], *kinds: type) -> list[Event]:
    return [event for event in events if isinstance(event, kinds)]


async def until(talk: Conversation, kind: type, turn: int | None = None) -> list[Event]:
    """Events up to the first of a kind."""
    seen: list[Event] = []
    while True:
        event = await asyncio.wait_for(anext(talk), 5)
        seen.append(event)
        if isinstance(event, kind) and turn in (None, event.turn):
            return seen


async def push(talk: Conversation, audio: np.ndarray, start: int = 0) -> int:
    for chunk in chunks(audio):
        await talk.push(replace(chunk, start=start + chunk.start))
    return start + len(audio)


async def rest(talk: Conversation) -> list[Event]:
    await talk.finish()
    return [event async for event in talk]


class TestReplies:
    async def test_a_given_reply_says_so_before_it_has_ended(self, stand: Stand) -> None:
        events = await stand.run(QUESTION)
        (given,) = of(events, ReplyGiven)
        (ended,) = of(events, ReplyEnded)
        assert (given.text, given.reason) == (ended.text, ended.reason)
        assert {"first_token", "first_audio", "server_perceived"} <= given.marks.keys()
        order = [type(event) for event in events]
        last_audio = max(i for i, kind in enumerate(order) if kind is ReplyAudio)
        assert last_audio < order.index(ReplyGiven) < order.index(ReplyEnded)
        assert order.index(ReplyEnded) + 1 == order.index(TurnLatency)

    async def test_without_replies_a_turn_is_remembered_and_not_answered(
        self, stand: Stand
    ) -> None:
        async with stand.open() as talk:
            await talk.push(Configure(replies=False))
            await push(talk, QUESTION)
            events = await rest(talk)
        (ended,) = of(events, TurnEnded)
        assert (ended.transcript, ended.replies) == (" What time is it?", False)
        assert not of(events, ReplyStarted, ReplyEnded, TurnEager)
        assert [m.id for m in stand.dialogue.messages] == ["u1"]

    async def test_respond_answers_what_is_remembered(self, stand: Stand) -> None:
        async with stand.open() as talk:
            await talk.push(Configure(replies=False))
            await push(talk, QUESTION)
            await until(talk, TurnEnded)
            turn = await respond(talk)
            events = await rest(talk)
        assert turn == 2
        assert {event.turn for event in of(events, ReplyText, ReplyEnded)} == {2}
        assert "".join(e.text for e in of(events, ReplyText)) == "It is noon. Really."
        assert [message.id for message in stand.dialogue.messages] == ["u1", "a2"]

    async def test_a_reply_may_differ_from_the_others(self, stand: Stand) -> None:
        async with stand.open() as talk:
            options = ReplyOptions(instructions="Rhyme.", max_tokens=7, voice=False, tools=(LAMP,))
            await respond(talk, options)
            events = await until(talk, ReplyEnded)
            await respond(talk)
            events += await until(talk, ReplyEnded)
        assert stand.dialogue.asked == [options, ReplyOptions()]
        assert {event.turn for event in of(events, ReplyAudio)} == {2}

    async def test_a_reply_aside_leaves_no_trace(self, stand: Stand) -> None:
        ask = Message("m1", "user", "Apart")
        async with stand.open() as talk:
            await respond(talk, ReplyOptions(messages=(ask,), remember=False))
            events = await until(talk, ReplyEnded)
        assert of(events, ReplyEnded)[0].text == "Aside."
        assert stand.dialogue.asked[0].messages == (ask,)
        assert stand.dialogue.messages == ()

    async def test_words_of_an_open_turn_wait_for_a_reply(self, stand: Stand) -> None:
        async with stand.open() as talk:
            end = await push(talk, QUESTION[:25600])
            while True:
                if of([await anext(talk)], WordsCommitted):
                    break
            await respond(talk)
            await until(talk, ReplyEnded, 2)
            await push(talk, QUESTION[25600:], end)
            events = await rest(talk)
        read = [turn.text for turn in stand.dialogue.read]
        assert read[:3] == [" What", "", " What"]  # before the reply, not in it, and after it
        assert of(events, TurnEnded)[0].transcript == " What time is it?"

    async def test_an_announcement_is_spoken_and_remembered(self, stand: Stand) -> None:
        async with stand.open() as talk:
            turn = await announce(talk, "Dinner is ready.")
            events = await rest(talk)
        assert "".join(e.text for e in of(events, ReplyText)) == "Dinner is ready."
        assert stand.voice.spoken == ["Dinner is ready."]
        assert stand.dialogue.messages == (Message(f"a{turn}", "assistant", "Dinner is ready."),)

    async def test_functions_are_called_not_spoken(self, stand: Stand) -> None:
        stand.dialogue.pieces, stand.dialogue.calls = [], (ToolCall("lamp", "{}"),)
        events = await stand.run(QUESTION)
        assert [event.call.name for event in of(events, ToolCalled)] == ["lamp"]
        assert not of(events, ReplyAudio, ReplyText)
        order = [type(event) for event in events]
        assert order.index(ReplyStarted) < order.index(ToolCalled) < order.index(ReplyGiven)

    async def test_without_an_llm_nothing_can_be_asked_for(self, stand: Stand) -> None:
        deaf = replace(stand, dialogue=None)
        async with deaf.open() as talk:
            with pytest.raises(StageError, match="no LLM"):
                await respond(talk)
            await talk.push(Configure(replies=True))
            await push(talk, QUESTION)
            events = await rest(talk)
        assert of(events, TurnEnded)[0].replies is False

    async def test_a_reply_that_cannot_begin_ends_all_the_same(self, stand: Stand) -> None:
        stand.dialogue.fails_at = "options"
        async with stand.open() as talk:
            turn = await respond(talk, ReplyOptions(instructions="x" * 9999))
            events = await until(talk, TurnLatency, turn)
            await respond(talk)
            events += await rest(talk)
        assert [(e.turn, e.reason) for e in of(events, ReplyEnded)] == [
            (turn, "failed"),
            (turn + 1, "stop"),
        ]
        assert [event.message for event in of(events, Failed)] == ["the instructions are too long"]
        assert stand.health.faults["llm"] == 0  # the client's mistake, not the model's


class TestStopping:
    async def test_a_reply_that_has_not_begun_never_does(self, stand: Stand) -> None:
        async with stand.open() as talk:
            turn = await respond(talk)
            await talk.push(Interrupt())
            events = await until(talk, TurnLatency, turn)
            second = await respond(talk)
            events += await until(talk, ReplyEnded, second)
        ended = of(events, ReplyEnded)
        assert [(e.turn, e.text, e.reason) for e in ended] == [
            (turn, "", "cancelled"),
            (second, "It is noon. Really.", "stop"),
        ]
        assert {e.turn for e in of(events, ReplyStarted, ReplyText, ReplyGiven)} == {second}

    async def test_one_of_several_replies_can_be_stopped(self, stand: Stand) -> None:
        async with stand.open() as talk:
            turns = [await respond(talk) for _ in range(3)]
            await talk.push(Interrupt(turn=turns[1]))
            events = await rest(talk)
        assert [(e.turn, e.reason) for e in of(events, ReplyEnded)] == [
            (turns[0], "stop"),
            (turns[1], "cancelled"),
            (turns[2], "stop"),
        ]

    async def test_speech_that_may_not_interrupt_does_not(self, stand: Stand) -> None:
        over = np.concatenate([QUESTION, sound(("voice", 1.0), ("silence", 1.5))])
        stand.dialogue.pieces = [" word" for _ in range(200)]
        async with stand.open(live=True) as talk:
            await talk.push(Configure(turn=replace(OPTIONS, barge_in=False)))
            await push(talk, over)
            events = await rest(talk)
        assert {event.reason for event in of(events, ReplyEnded)} == {"stop"}

    async def test_a_new_request_does_not_wait_for_the_last_reply_to_be_heard(
        self, stand: Stand
    ) -> None:
        class Stopped(VirtualClock):
            """Time stands still: no reply is ever heard to its end."""

            async def sleep_until(self, moment: float) -> None:
                await asyncio.sleep(3600)

        slow = replace(stand, clock=Stopped())
        slow.dialogue.pieces = ["Yes."]
        async with slow.open(live=True) as talk:
            first = await respond(talk)
            await until(talk, ReplyGiven, first)
            second = await respond(talk)
            events = await until(talk, ReplyGiven, second)
        assert [e.turn for e in of(events, ReplyEnded)] == [first]


class TestPace:
    async def test_audio_is_given_out_little_ahead_of_its_hearing(self, stand: Stand) -> None:
        clock = VirtualClock()
        stand = replace(stand, clock=clock)
        stand.dialogue.pieces = [" word" for _ in range(100)]  # 10 s of speech
        async with stand.open(live=True) as talk:
            await respond(talk)
            given_s = 0.0
            while True:
                event = await asyncio.wait_for(anext(talk), 5)
                if isinstance(event, ReplyAudio):
                    given_s += len(event.chunk.samples) / event.chunk.rate_hz
                    assert given_s - clock.now() <= 2.1 + 0.1
                if isinstance(event, ReplyEnded):
                    break
        assert given_s == pytest.approx(10)
        assert clock.now() >= 9.9

    async def test_a_file_is_not_held_up(self, stand: Stand) -> None:
        clock = VirtualClock()
        stand = replace(stand, clock=clock)
        stand.dialogue.pieces = [" word" for _ in range(100)]
        await stand.run(QUESTION)
        assert clock.now() == 0


class TestMemory:
    async def test_messages_are_added_removed_and_cut(self, stand: Stand) -> None:
        async with stand.open() as talk:
            await talk.push(Add(Message("m1", "user", "Hello.")))
            await talk.push(Add(Message("m2", "system", "Be brief."), after=""))
            await talk.push(Truncate("m1", 2))
            await talk.push(Remove("m1"))
            await talk.push(Remove("nobody"))
            events = await rest(talk)
        assert [m.id for m in stand.dialogue.messages] == ["m2"]
        assert Truncate("m1", 2) in stand.dialogue.edits
        assert [event.message for event in of(events, Failed)] == ["no message nobody"]
        assert isinstance(events[-1], Finished)

    async def test_a_cleared_turn_was_never_there(self, stand: Stand) -> None:
        async with stand.open() as talk:
            end = await push(talk, QUESTION[:25600])
            await talk.push(Clear())
            await push(talk, QUESTION[25600:], end)
            events = await rest(talk)
        assert of(events, WordsCommitted)
        assert not of(events, TurnEnded, ReplyStarted)
        assert stand.dialogue.turn.text == ""
        assert events[-1].turns == 0

    async def test_rules_change_with_the_audio(self, stand: Stand) -> None:
        patient = replace(OPTIONS, silence_ms=1400, silence_long_ms=1400)
        async with stand.open() as talk:
            await talk.push(Configure(turn=patient))
            await push(talk, QUESTION)
            (ended,) = of(await rest(talk), TurnEnded)
        assert ended.at == pytest.approx((1.5 + 1.4) * 16000, abs=960)


class TestManualTurns:
    def manual(self, stand: Stand) -> Stand:
        return stand.with_options(push_to_talk=True, barge_in=False)

    async def test_every_sample_belongs_to_one_turn(self, stand: Stand) -> None:
        script = Script([(" one", 0.4), (" two", 1.4)])
        stand = replace(self.manual(stand), script=script)
        async with stand.open() as talk:
            await talk.push(Configure(replies=False))
            await talk.push(Press())
            end = await push(talk, sound(("voice", 1.0)))
            await talk.push(Release())
            await talk.push(Press())
            await push(talk, sound(("voice", 1.0)), end)
            await talk.push(Release())
            events = await rest(talk)
        assert [event.transcript for event in of(events, TurnEnded)] == [" one", " two"]
        assert script.opened_at == [0, 16000]
        assert len(of(events, SpeechStarted)) == 2

    async def test_pressing_twice_opens_one_turn(self, stand: Stand) -> None:
        async with self.manual(stand).open() as talk:
            await talk.push(Press())
            await talk.push(Press())
            await push(talk, QUESTION)
            await talk.push(Release())
            await talk.push(Release())
            events = await rest(talk)
        assert len(of(events, SpeechStarted)) == len(of(events, TurnEnded)) == 1


class TestEcho:
    WORDS = ("It", " is", " exactly", " noon", " now", ".")

    def stand_with_echo(self, stand: Stand, said: str) -> Stand:
        words = [(" What", 0.8), (" time", 1.1), (" is it?", 1.4), (said, 3.6)]
        return replace(
            stand.with_options(barge_in=False),
            script=Script(words),
            dialogue=ScriptedDialogue(pieces=list(self.WORDS)),
            voice=ScriptedVoice(),
        )

    @pytest.mark.parametrize(
        ("said", "reason"),
        [(" it is exactly noon now", "echo"), (" at what hour do you go home", "complete")],
    )
    async def test_our_own_reply_is_not_answered(
        self, stand: Stand, said: str, reason: str
    ) -> None:
        audio = np.concatenate([QUESTION, sound(("voice", 0.8), ("silence", 1.5))])
        stand = self.stand_with_echo(stand, said)
        async with stand.open(live=True) as talk:
            await push(talk, QUESTION)
            events = await until(talk, TurnLatency)
            await push(talk, audio[len(QUESTION) :], len(QUESTION))
            events += await rest(talk)
        second = of(events, TurnEnded)[1]
        assert (second.transcript, second.reason == "echo") == (said, reason == "echo")
        assert second.replies == (reason != "echo")
        assert len(of(events, ReplyEnded)) == (1 if reason == "echo" else 2)


async def test_leaving_gives_the_cache_back(stand: Stand) -> None:
    async with stand.open() as talk:
        await push(talk, QUESTION)
        await until(talk, ReplyStarted)
    assert stand.dialogue.closed
