"""Reads a conversation as it comes."""

from __future__ import annotations

import asyncio

from textpro_stream.events import Event, ReplyAudio
from textpro_stream.ports import Talk


class Reader:
    """Reads a conversation as it comes."""

    def __init__(self, talk: Talk) -> None:
        self.events: list[Event] = []
        self._events = aiter(talk)

    async def until(self, kind: type, turn: int | None = None) -> Event:
        while True:
            event = await asyncio.wait_for(anext(self._events), 5)
            self.events.append(event)
            if isinstance(event, kind) and turn in (None, event.turn):
                return event

    async def quiet(self) -> None:
        """Whatever can be read now."""
        while True:
            try:
                self.events.append(await asyncio.wait_for(anext(self._events), 0.05))
            except TimeoutError:
                return

    @property
    def spoken_s(self) -> float:
        chunk = [e for e in self.events if isinstance(e, ReplyAudio)][-1].chunk
        return (chunk.start + len(chunk.samples)) / chunk.rate_hz
