"""The way out of one socket: one writer, bounded in bytes and in time.

Whoever has something to send hands it over and goes on; only the writer waits for the client. So
a client that reads slowly never delays what is read from it, and a barge-in can take back what
has not been written yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from textpro_stream.ports import ClientSocket
from textpro_stream.server.limits import POLICY, Hangup

PAUSE = 0.25  # of the bytes allowed: from there on, conversations wait before they say more

Message = str | bytes


@dataclass(frozen=True, slots=True)
class _Entry:
    messages: tuple[Message, ...]
    reply: Hashable
    since: float
    n_bytes: int


class Sender:
    """Messages on their way to one client, in order.

    Args:
        socket: that only this object writes to.
        max_bytes: that may wait; more ends the connection.
        max_s: that anything may wait to be written; longer ends the connection.
    """

    def __init__(self, socket: ClientSocket, *, max_bytes: int, max_s: float) -> None:
        self._socket, self._max_bytes, self._max_s = socket, max_bytes, max_s
        self._entries: deque[_Entry] = deque()
        self._waiting = 0
        self._changed = asyncio.Event()  # something for the writer
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._waiting

    def send(self, *messages: Message, reply: Hashable = None) -> None:
        """Hand over messages that belong together; returns at once.

        Args:
            messages: written one after another, with nothing between them.
            reply: what `drop` may take them back by, e.g. a turn; None: never.
        """
        n_bytes = sum(map(_n_bytes, messages))
        now = asyncio.get_running_loop().time()
        self._entries.append(_Entry(messages, reply, now, n_bytes))
        self._count(n_bytes)

    def drop(self, reply: Hashable) -> None:
        """Take back what of a reply has not been written yet."""
        kept = deque(entry for entry in self._entries if entry.reply != reply)
        gone = sum(e.n_bytes for e in self._entries) - sum(e.n_bytes for e in kept)
        self._entries = kept
        self._count(-gone)

    async def room(self) -> None:
        """Wait until a conversation may say more: this is how a slow client slows a reply down."""
        await self._room.wait()

    async def flush(self) -> None:
        """Wait until everything has been written."""
        await self._idle.wait()

    async def run(self) -> None:
        """Write, for as long as the connection lives. Once per socket.

        Raises:
            Hangup: the client reads too slowly.
            ConnectionClosed: it has gone.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._entries:
                if self._waiting > self._max_bytes:
                    raise _slow()
                await self._write(self._entries.popleft())
            self._idle.set()

    async def _write(self, entry: _Entry) -> None:
        try:
            async with asyncio.timeout_at(entry.since + self._max_s):
                for message in entry.messages:
                    await self._socket.send(message)
        except TimeoutError:
            raise _slow() from None
        self._count(-entry.n_bytes)

    def _count(self, n_bytes: int) -> None:
        self._waiting += n_bytes
        self._idle.clear()
        self._changed.set()
        if self._waiting < PAUSE * self._max_bytes:
            self._room.set()
        else:
            self._room.clear()


def _n_bytes(message: Message) -> int:
    return len(message) if isinstance(message, bytes) else len(message.encode())


def _slow() -> Hangup:
    return Hangup("", "slow reader", POLICY)
