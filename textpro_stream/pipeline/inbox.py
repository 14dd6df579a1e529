"""The way into a conversation: audio and commands in order, and no more of it than is bearable."""

from __future__ import annotations

import asyncio
from collections import deque

from textpro_stream.commands import Command
from textpro_stream.contracts import FRAME, AudioChunk, samples_of_ms
from textpro_stream.errors import Overloaded
from textpro_stream.ports import Clock

WAITING = samples_of_ms(1000) // FRAME  # items: who may wait does so from here on
BEHIND = samples_of_ms(30_000) // FRAME  # frames: who may not wait has come to the wrong machine
MAX_COMMANDS = 5000  # that wait likewise
BATCH = samples_of_ms(160) // FRAME  # frames given to the device at once: less than a block

Item = AudioChunk | Command


class Inbox:
    """A queue with one reader that takes several frames at once when it has fallen behind.

    Args:
        clock: says when what is taken had come.
    """

    def __init__(self, clock: Clock) -> None:
        # When the first frame of those taken last had come; None: whoever sent it waits, so that it
        # is as late as the sender lets it be.
        self.since: float | None = 0.0
        self._clock = clock
        self._items: deque[tuple[Item, float | None]] = deque()
        self._n_frames = 0
        self._filled, self._room = asyncio.Event(), asyncio.Event()
        self._shut = False  # nothing more is wanted

    async def put(self, item: Item) -> bool:
        """Append; wait while a second of audio waits. False if nobody wants it any more."""
        waited = False
        while not self._shut and len(self._items) >= WAITING:
            self._room.clear()
            waited = True
            await self._room.wait()
        return self._append(item, None if waited else self._clock.now())

    def put_nowait(self, item: Item) -> bool:
        """Append at once. False if nobody wants it any more.

        Raises:
            Overloaded: half a minute of audio waits, or very many commands.
        """
        n_commands = len(self._items) - self._n_frames
        if self._n_frames > BEHIND or n_commands > MAX_COMMANDS:
            raise Overloaded("audio comes faster than it can be heard; send less, or go elsewhere")
        return self._append(item, self._clock.now())

    def shut(self) -> None:
        """Nothing more is wanted: whoever waits to put something goes on."""
        self._shut = True
        self._items.clear()
        self._n_frames = 0
        self._room.set()

    async def take(self) -> list[AudioChunk] | Command:
        """Some frames, or one command."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        first, since = self._items.popleft()
        self._room.set()
        if not isinstance(first, AudioChunk):
            return first
        frames, self.since = [first], since
        while self._items and len(frames) < BATCH:
            following = self._items[0][0]
            if not isinstance(following, AudioChunk):
                break
            frames.append(following)
            self._items.popleft()
        self._n_frames -= len(frames)
        return frames

    def _append(self, item: Item, since: float | None) -> bool:
        if not self._shut:
            self._items.append((item, since))
            self._n_frames += isinstance(item, AudioChunk)
            self._filled.set()
        return not self._shut
