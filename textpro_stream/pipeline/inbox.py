"""The way into a conversation: audio and commands in order, and no more of it than is bearable."""

from __future__ import annotations

import asyncio
from collections import deque

from textpro_stream.commands import Command
from textpro_stream.contracts import FRAME, AudioChunk, samples_of_ms
from textpro_stream.ports import Clock

WAITING_MS = 1000  # of audio; whoever feeds faster than this is heard waits
BATCH = samples_of_ms(160) // FRAME  # frames given to the device at once: less than a block


Item = AudioChunk | Command


class Inbox:
    """A queue with one reader that takes several frames at once when it has fallen behind.

    Args:
        clock: says when what is taken had come.
    """

    def __init__(self, clock: Clock) -> None:
        self.since = 0.0  # when the first frame of those taken last had come
        self._clock = clock
        self._items: deque[tuple[Item, float]] = deque()
        self._changed = asyncio.Condition()
        self._shut = False  # nothing more is wanted

    async def put(self, item: Item) -> bool:
        """Append; wait while there is a second of audio. False if nobody wants it any more."""
        room = samples_of_ms(WAITING_MS) // FRAME
        async with self._changed:
            await self._changed.wait_for(lambda: self._shut or len(self._items) < room)
            if not self._shut:
                self._items.append((item, self._clock.now()))
                self._changed.notify_all()
            return not self._shut

    async def shut(self) -> None:
        """Nothing more is wanted: whoever waits to put something goes on."""
        async with self._changed:
            self._shut = True
            self._items.clear()
            self._changed.notify_all()

    async def take(self) -> list[AudioChunk] | Command:
        """Some frames, or one command."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._items))
            first, since = self._items.popleft()
            self._changed.notify_all()
            if not isinstance(first, AudioChunk):
                return first
            frames, self.since = [first], since
            while self._items and len(frames) < BATCH:
                following = self._items[0][0]
                if not isinstance(following, AudioChunk):
                    break
                frames.append(following)
                self._items.popleft()
            return frames
