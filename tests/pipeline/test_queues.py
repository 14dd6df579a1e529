"""The ways in and out of a conversation are bounded, ordered, and let go of whoever waits."""

import asyncio

import numpy as np
import pytest

from textpro_stream.clock import VirtualClock
from textpro_stream.commands import Finish, Press, Release
from textpro_stream.contracts import FRAME, AudioChunk, SpokenChunk
from textpro_stream.events import ReplyAudio, ReplyEnded, ReplyText, TurnEager
from textpro_stream.pipeline.inbox import BATCH, Inbox
from textpro_stream.pipeline.outbox import MAX_AUDIO_MS, MAX_EVENTS, Outbox


def frame(i: int) -> AudioChunk:
    return AudioChunk(np.zeros(FRAME, np.float32), i * FRAME)


def audio(turn: int, seconds: float) -> ReplyAudio:
    samples = np.zeros(round(100 * seconds), np.float32)
    return ReplyAudio(turn, 0, SpokenChunk(samples, 100, 0, 1))


async def blocks(coroutine) -> asyncio.Task:
    """The task, once it is clear that it waits."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


class TestInbox:
    async def test_a_second_of_audio_waits_and_no_more(self) -> None:
        inbox = Inbox(VirtualClock())
        for i in range(50):
            assert await inbox.put(frame(i))
        waiting = await blocks(inbox.put(frame(50)))
        await inbox.take()
        assert await waiting

    async def test_what_is_left_behind_comes_in_batches_in_order(self) -> None:
        inbox = Inbox(VirtualClock())
        for i in range(BATCH + 2):
            await inbox.put(frame(i))
        await inbox.put(Press())
        await inbox.put(frame(99))
        await inbox.put(Release())
        await inbox.put(Finish())
        taken = [await inbox.take() for _ in range(6)]
        starts = [[c.start // FRAME for c in t] if isinstance(t, list) else t for t in taken]
        frames = list(range(BATCH + 2))
        assert starts == [
            frames[:BATCH],
            frames[BATCH:],
            Press(),
            [99],
            Release(),
            Finish(),
        ]

    async def test_it_knows_when_the_oldest_of_those_taken_had_come(self) -> None:
        clock = VirtualClock()
        inbox = Inbox(clock)
        for i in range(BATCH + 1):
            await inbox.put(frame(i))
            await clock.sleep_until(clock.now() + 0.02)
        await inbox.take()
        assert inbox.since == 0.0
        await inbox.take()
        assert inbox.since == pytest.approx(BATCH * 0.02)

    async def test_shutting_lets_go_of_whoever_waits(self) -> None:
        inbox = Inbox(VirtualClock())
        for i in range(50):
            await inbox.put(frame(i))
        waiting = await blocks(inbox.put(frame(50)))
        inbox.shut()
        assert not await waiting
        assert not await inbox.put(frame(51))


class TestOutbox:
    async def test_events_come_in_order_and_then_it_ends(self) -> None:
        outbox = Outbox()
        await outbox.put(TurnEager(1, 0))
        await outbox.put(TurnEager(2, 0))
        await outbox.close(TurnEager(3, 0))
        await outbox.put(TurnEager(4, 0))  # too late: nobody will read it
        turns = [e.turn for e in [await outbox.get() for _ in range(3)] if e]
        assert turns == [1, 2, 3]
        assert await outbox.get() is None

    async def test_what_waits_is_forgotten_when_nobody_reads_any_more(self) -> None:
        outbox = Outbox()
        await outbox.put(audio(1, MAX_AUDIO_MS / 1000))
        waiting = await blocks(outbox.put(TurnEager(2, 0)))
        await outbox.shut()
        await waiting
        assert await outbox.get() is None

    @pytest.mark.parametrize("event", [TurnEager(1, 0), audio(1, MAX_AUDIO_MS / 1000)])
    async def test_it_holds_so_much_and_no_more(self, event) -> None:
        outbox = Outbox()
        for _ in range(MAX_EVENTS if isinstance(event, TurnEager) else 1):
            await outbox.put(event)
        waiting = await blocks(outbox.put(event))
        await outbox.get()
        await waiting

    async def test_a_barge_in_drops_what_is_stale_and_keeps_the_rest(self) -> None:
        outbox = Outbox()
        kept = [ReplyText(2, 0, "b"), TurnEager(1, 0), ReplyEnded(1, 0, "a", "barge_in")]
        await outbox.put(kept[0])
        await outbox.put(ReplyText(1, 0, "a"))
        await outbox.put(audio(1, 59.0))
        await outbox.put(kept[1])
        await outbox.drop_reply(1)
        await outbox.put(audio(2, 59.0))  # there is room again
        await outbox.close(kept[2])
        assert [await outbox.get() for _ in range(2)] == kept[:2]

    async def test_closing_wakes_a_reader_and_a_writer(self) -> None:
        empty, full = Outbox(), Outbox()
        reader = await blocks(empty.get())
        await empty.close()
        assert await reader is None
        await full.put(audio(1, 60.0))
        writer = await blocks(full.put(audio(1, 1.0)))
        await full.close()
        await writer
