"""`textpro talk` through fake devices: what is said goes in, what is heard comes out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from fake_devices import FakeCard
from scripted import Script, sound
from stand import Stand

from textpro_stream.audio.devices import Device
from textpro_stream.audio.microphone import Microphone
from textpro_stream.audio.speaker import Loudspeaker
from textpro_stream.cli.talk import hold, list_devices
from textpro_stream.clock import MonotonicClock
from textpro_stream.errors import DeviceError
from textpro_stream.events import Event, Failed, ReplyAudio, ReplyDucked, ReplyEnded, TurnEnded
from textpro_stream.pipeline import Conversation
from textpro_stream.runtime.device import DeviceThread

RATE_HZ = 1000  # of the loudspeaker and of the scripted voice


def card() -> FakeCard:
    return FakeCard(
        rate_hz=RATE_HZ,
        latency_s=0.02,
        entries=[
            Device(0, "Desk microphone", 1, 0, 16_000, frozenset({"microphone"})),
            Device(1, "Desk loudspeaker", 0, 2, RATE_HZ, frozenset({"loudspeaker"})),
        ],
    )


class Notes:
    """A report that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.seen = asyncio.Event()

    def begin(self, source: str, talk: Conversation | None = None) -> None:
        self.source = source

    def show(self, event: Event) -> None:
        self.events.append(event)
        self.seen.set()

    def close(self) -> None: ...

    async def until(self, kind: type, n: int = 1) -> Event:
        async with asyncio.timeout(10):
            while len(found := [e for e in self.events if isinstance(e, kind)]) < n:
                self.seen.clear()
                await self.seen.wait()
        return found[n - 1]


@pytest.fixture
def stand() -> Iterator[Stand]:
    device = DeviceThread("test device")
    script = Script([(" What", 0.8), (" time", 1.1), (" is it?", 1.4)])
    yield Stand(device, script, clock=MonotonicClock())
    device.close()


QUESTION = sound(("silence", 0.5), ("voice", 1.0), ("silence", 1.0))


class Table:
    """Somebody at a desk, talking."""

    def __init__(self, stand: Stand, keys: AsyncIterator[str] | None = None) -> None:
        self.card, self.notes, self.stand, self.keys = card(), Notes(), stand, keys
        self.heard: list[np.ndarray] = []

    async def __aenter__(self) -> Table:
        self.microphone = Microphone(backend=self.card)
        self.loudspeaker = Loudspeaker(backend=self.card)
        talk = self.stand.open(live=True)
        self.task = asyncio.create_task(
            hold(talk, self.microphone, self.loudspeaker, self.notes, self.keys)
        )
        return self

    async def pass_time(self, spoken: np.ndarray) -> None:
        """Speak while listening, block by block, quicker than in life."""
        assert self.card.say is not None
        for start in range(0, len(spoken), 320):
            self.card.say(spoken[start : start + 320], False)
            self.heard.append(self.card.pull())
            await asyncio.sleep(0.0005)

    async def __aexit__(self, *_: object) -> None:
        self.microphone.close()
        self.status = await asyncio.wait_for(self.task, 10)
        self.loudspeaker.close()
        assert all(stream.closed for stream in self.card.streams)
        assert len(asyncio.all_tasks()) == 1


async def test_a_question_is_answered_aloud(stand: Stand) -> None:
    async with Table(stand) as table:
        await table.pass_time(QUESTION)
        await table.notes.until(ReplyAudio, 4)
        await table.pass_time(sound(("silence", 1.0)))
        ended = await table.notes.until(ReplyEnded)
        assert isinstance(ended, ReplyEnded)
        assert ended.reason == "stop"
    assert table.status == 0
    played = np.concatenate(table.heard)
    assert np.count_nonzero(played) > 0.3 * RATE_HZ  # four words of 100 ms, faded at the edges


async def test_speaking_over_it_silences_it_and_crops_what_it_remembers(stand: Stand) -> None:
    assert stand.voice is not None
    assert stand.dialogue is not None
    stand.dialogue.pieces = ["one two three four five six seven eight nine ten."] * 3
    stand.script.words.append((" Stop.", 2.75))
    async with Table(stand) as table:
        await table.pass_time(QUESTION)
        await table.notes.until(ReplyAudio, 20)
        await table.pass_time(sound(("voice", 0.2)))
        await table.notes.until(ReplyDucked)
        await table.pass_time(sound(("voice", 0.5)))
        ended = await table.notes.until(ReplyEnded)
        table.card.pull()  # one block in which it fades
        assert not table.card.pull().any()
        assert isinstance(ended, ReplyEnded)
        assert ended.reason == "barge_in"
        assert 0 < len(ended.text) < 80
        await table.pass_time(sound(("silence", 1.5)))
        again = await table.notes.until(TurnEnded, 2)
        assert isinstance(again, TurnEnded)
        assert again.transcript == " Stop."
    remembered = [m.text for m in stand.dialogue.messages if m.role == "assistant"]
    assert remembered[0] == ended.text


async def test_the_space_bar_begins_and_ends_a_turn(stand: Stand) -> None:
    pressed: asyncio.Queue[str] = asyncio.Queue()

    async def keys() -> AsyncIterator[str]:
        while True:
            yield await pressed.get()

    keyed = stand.with_options(push_to_talk=True)
    async with Table(keyed, keys()) as table:
        await table.pass_time(QUESTION[:4800])
        pressed.put_nowait("x")  # no key of ours
        pressed.put_nowait(" ")
        await table.pass_time(QUESTION[4800:28_000])
        pressed.put_nowait("\n")
        ended = await table.notes.until(TurnEnded)
        assert isinstance(ended, TurnEnded)
        assert (ended.transcript, ended.reason) == (" What time is it?", "pushed")
        await table.notes.until(ReplyAudio)


async def test_a_microphone_that_goes_away_ends_it_with_a_word(stand: Stand) -> None:
    async with Table(stand) as table:
        await table.pass_time(QUESTION[:8000])
        table.card.unplug()
        failed = await table.notes.until(Failed)
        assert isinstance(failed, Failed)
        assert "went away" in failed.message
    assert table.status == 1


def test_devices_are_listed_with_their_uses(capsys: pytest.CaptureFixture[str]) -> None:
    list_devices(card())
    out = capsys.readouterr().out
    assert "0  Desk microphone  16000 Hz  microphone (default)" in out
    assert "1  Desk loudspeaker  1000 Hz  loudspeaker (default)" in out


async def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(DeviceError, match="Desk microphone"):
        Microphone("studio", backend=card())
