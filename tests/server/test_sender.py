from __future__ import annotations

import asyncio
import contextlib

import pytest

from textpro_stream.server.limits import POLICY, Hangup
from textpro_stream.server.sender import Sender


class Socket:
    """Takes messages while `reading` is set."""

    def __init__(self) -> None:
        self.got: list[str | bytes] = []
        self.reading = asyncio.Event()
        self.reading.set()

    async def send(self, message: str | bytes, /) -> None:
        await self.reading.wait()
        self.got.append(message)


@contextlib.asynccontextmanager
async def writing(socket: Socket, **limits: float):
    sender = Sender(socket, **{"max_bytes": 1000, "max_s": 5.0, **limits})
    task = asyncio.create_task(sender.run())
    try:
        yield sender, task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Hangup):
            await task


async def test_messages_go_out_in_order() -> None:
    socket = Socket()
    async with writing(socket) as (sender, _):
        sender.send("a", b"1")
        sender.send("b")
        await sender.flush()
        assert socket.got == ["a", b"1", "b"]
        assert sender.waiting == 0


async def test_sending_never_waits_and_a_reply_can_be_taken_back() -> None:
    socket = Socket()
    socket.reading.clear()
    async with writing(socket) as (sender, _):
        sender.send("first", reply=1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sender.send("old", b"xx", reply=1)
        sender.send("kept")
        sender.send("new", reply=2)
        sender.drop(1)
        socket.reading.set()
        await sender.flush()
    assert socket.got == ["first", "kept", "new"]


async def test_conversations_wait_at_a_quarter_and_go_on_when_it_is_read() -> None:
    socket = Socket()
    socket.reading.clear()
    async with writing(socket) as (sender, _):
        sender.send(bytes(100))
        await sender.room()
        sender.send(bytes(200))
        waiting = asyncio.create_task(sender.room())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        socket.reading.set()
        await asyncio.wait_for(waiting, 1)


async def test_a_reader_that_stays_away_is_slow() -> None:
    socket = Socket()
    socket.reading.clear()
    async with writing(socket, max_s=0.05) as (sender, task):
        sender.send("a")
        with pytest.raises(Hangup, match="slow reader") as hangup:
            await asyncio.wait_for(asyncio.shield(task), 2)
        assert hangup.value.closing == POLICY


async def test_too_much_at_once_is_slow_too() -> None:
    socket = Socket()
    async with writing(socket) as (sender, task):
        for _ in range(11):
            sender.send(bytes(100))
        with pytest.raises(Hangup, match="slow reader"):
            await asyncio.wait_for(asyncio.shield(task), 2)


async def test_bytes_are_counted_as_they_travel() -> None:
    socket = Socket()
    socket.reading.clear()
    async with writing(socket) as (sender, _):
        sender.send("ä")
        assert sender.waiting == 2
