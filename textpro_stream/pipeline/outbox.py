"""The way out of a conversation: events in order, bounded, and a barge-in empties what is stale."""

from __future__ import annotations

import asyncio
from collections import deque

from textpro_stream.events import Event, ReplyAudio, ReplyText

MAX_EVENTS = 4096  # some ten minutes of talk without its audio
MAX_AUDIO_MS = 60_000  # of reply audio waiting for a reader


class Outbox:
    """A queue with one reader. A reader that stays away holds the conversation up."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._audio_ms = 0.0
        self._changed = asyncio.Condition()
        self._closed = False

    async def put(self, event: Event) -> None:
        """Append; wait while there is no room."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._has_room())
            self._append(event)
            self._changed.notify_all()

    async def get(self) -> Event | None:
        """The next event; None once the outbox is closed and empty."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or bool(self._events))
            if not self._events:
                return None
            event = self._events.popleft()
            self._audio_ms -= _audio_ms(event)
            self._changed.notify_all()
            return event

    async def drop_reply(self, turn: int) -> None:
        """Forget the text and audio of a turn's reply that nobody has taken yet."""
        async with self._changed:
            kept = [
                event
                for event in self._events
                if not (isinstance(event, ReplyText | ReplyAudio) and event.turn == turn)
            ]
            self._events = deque(kept)
            self._audio_ms = sum(map(_audio_ms, kept))
            self._changed.notify_all()

    async def close(self, *last: Event) -> None:
        """Append the last events, room or not; nothing comes after them."""
        async with self._changed:
            if not self._closed:
                for event in last:
                    self._append(event)
            self._closed = True
            self._changed.notify_all()

    async def shut(self) -> None:
        """Nobody reads any more: forget what waits."""
        await self.close()
        self._events.clear()
        self._audio_ms = 0.0

    def _append(self, event: Event) -> None:
        if not self._closed:
            self._events.append(event)
            self._audio_ms += _audio_ms(event)

    def _has_room(self) -> bool:
        return len(self._events) < MAX_EVENTS and self._audio_ms < MAX_AUDIO_MS


def _audio_ms(event: Event) -> float:
    if not isinstance(event, ReplyAudio):
        return 0.0
    return 1000 * len(event.chunk.samples) / event.chunk.rate_hz
