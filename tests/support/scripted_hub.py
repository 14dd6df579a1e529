"""The live conversations of a server, scripted, for tests of what stands behind the hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from textpro_stream.events import Event
from textpro_stream.ports import SessionState


@dataclass
class ScriptedHub:
    state: SessionState = "idle"
    listening: bool = True
    gain: float = 1.0
    sessions: int = 1
    raises: Exception | None = None
    held: asyncio.Event | None = None  # say waits for it
    log: list[str] = field(default_factory=list)
    watchers: list[Callable[[str, Event], None]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.sessions

    def watch(self, watcher: Callable[[str, Event], None]) -> Callable[[], None]:
        self.watchers.append(watcher)
        return lambda: self.watchers.remove(watcher)

    def publish(self, session: str, event: Event) -> None:
        for watcher in self.watchers:
            watcher(session, event)

    async def say(self, text: str) -> None:
        if self.raises:
            raise self.raises
        if self.held:
            await self.held.wait()
        self.log.append(f"say {text}")

    async def stop(self) -> None:
        self.log.append("stop")

    def listen(self, on: bool) -> None:
        self.listening = on
        self.log.append(f"listen {on}")

    def volume(self, gain: float) -> None:
        self.gain = gain
        self.log.append(f"volume {gain}")
