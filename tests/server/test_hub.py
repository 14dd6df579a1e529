from __future__ import annotations

import asyncio

import pytest
from scripted_talk import Script, ScriptedTalk

from textpro_stream.commands import Announce, Command, Interrupt
from textpro_stream.contracts import AudioChunk, SpokenChunk
from textpro_stream.errors import StageError
from textpro_stream.events import (
    Event,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    SpeechStarted,
    TurnEnded,
)
from textpro_stream.server.hub import Hub

AUDIO = ReplyAudio(1, 0, SpokenChunk([0.0], 16_000, 0, 1))


class Talk(ScriptedTalk):
    """Notes what it is told."""

    def __init__(self, ended: bool = False) -> None:
        super().__init__(Script())
        self.told: list[AudioChunk | Command] = []
        self.ended = ended

    async def push(self, item: AudioChunk | Command, /) -> None:
        if self.ended:
            raise StageError("the conversation has ended")
        self.told.append(item)


def test_a_turn_goes_through_all_states() -> None:
    hub = Hub()
    hub.join("a", Talk())
    states = [hub.state]
    events: list[Event] = [
        SpeechStarted(1, 0, 0),
        TurnEnded(1, 0, " What?", "complete"),
        ReplyStarted(1, 0),
        AUDIO,
        ReplyEnded(1, 0, "That.", "stop"),
    ]
    for event in events:
        hub.publish("a", event)
        states.append(hub.state)
    assert states == ["idle", "listening", "thinking", "thinking", "speaking", "idle"]


def test_after_an_interruption_somebody_is_heard() -> None:
    hub = Hub()
    hub.join("a", Talk())
    for event in (AUDIO, SpeechStarted(2, 0, 0), ReplyEnded(1, 0, "", "barge_in")):
        hub.publish("a", event)
    assert hub.state == "listening"


def test_the_busiest_session_counts() -> None:
    hub = Hub()
    hub.join("a", Talk())
    hub.join("b", Talk())
    hub.publish("a", SpeechStarted(1, 0, 0))
    hub.publish("b", AUDIO)
    assert (hub.state, len(hub)) == ("speaking", 2)
    hub.leave("b")
    assert (hub.state, len(hub)) == ("listening", 1)
    hub.leave("never joined")


def test_a_turn_that_is_not_answered_is_over() -> None:
    hub = Hub()
    hub.join("a", Talk())
    hub.publish("a", TurnEnded(1, 0, "", "no_words", replies=False))
    assert hub.state == "idle"


def test_watchers_see_all_and_a_bad_one_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    hub, seen = Hub(), []

    def bad(session: str, event: Event) -> None:
        raise ValueError

    hub.watch(bad)
    unwatch = hub.watch(lambda session, event: seen.append((session, event)))
    event = SpeechStarted(1, 0, 0)
    hub.publish("a", event)
    unwatch()
    hub.publish("a", event)
    assert seen == [("a", event)]
    assert "a watcher failed" in caplog.text


async def test_commands_reach_every_session_and_one_that_just_ended_is_no_error() -> None:
    hub, talks = Hub(), [Talk(), Talk(ended=True), Talk()]
    for n, talk in enumerate(talks):
        hub.join(str(n), talk)
    await hub.say("hello")
    await hub.stop()
    told = [Announce(1, "hello"), Interrupt()]
    assert [talk.told for talk in talks] == [told, [], told]


async def test_settled_waits_for_replies() -> None:
    hub = Hub()
    hub.join("a", Talk())
    hub.publish("a", AUDIO)
    waiting = asyncio.create_task(hub.settled())
    await asyncio.sleep(0)
    assert not waiting.done()
    hub.leave("a")
    await asyncio.wait_for(waiting, 1)


def test_volume_and_listening() -> None:
    hub = Hub()
    assert (hub.gain, hub.listening) == (1.0, True)
    hub.volume(1.7)
    assert hub.gain == 1.0
    hub.volume(-1)
    hub.listen(False)
    assert (hub.gain, hub.listening) == (0.0, False)
