"""The live sessions of all routes, for those who watch and command them from beside.

Watching never costs a conversation any time: watchers are called with each event and must return
at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from textpro_stream.commands import Announce, Command, Interrupt
from textpro_stream.errors import TextproError
from textpro_stream.events import (
    Event,
    Finished,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    TurnEnded,
)
from textpro_stream.ports import SessionState, Talk

log = logging.getLogger(__name__)

BUSIEST: tuple[SessionState, ...] = ("speaking", "thinking", "listening", "idle")

Watcher = Callable[[str, Event], None]


class Hub:
    """All sessions as one: what they do together, and what they are told together."""

    def __init__(self) -> None:
        self._talks: dict[str, Talk] = {}
        self._states: dict[str, SessionState] = {}
        self._watchers: list[Watcher] = []
        self._moved = asyncio.Event()  # a state changed, or a session left
        self.listening = True  # False: routes hear silence in place of what comes in
        self.gain = 1.0  # that routes apply to reply audio

    def __len__(self) -> int:
        """Sessions now."""
        return len(self._talks)

    def __bool__(self) -> bool:
        """A hub without sessions is still a hub."""
        return True

    @property
    def state(self) -> SessionState:
        """What the busiest session does."""
        states = set(self._states.values())
        return next((state for state in BUSIEST if state in states), "idle")

    def replying(self, session_id: str) -> bool:
        """That session owes its client (the rest of) a reply."""
        return self._states.get(session_id) in ("thinking", "speaking")

    async def settled(self) -> None:
        """Wait until no session owes a reply."""
        while any(map(self.replying, self._states)):
            self._moved.clear()
            await self._moved.wait()

    def join(self, session_id: str, talk: Talk) -> None:
        """A session has begun."""
        self._talks[session_id] = talk
        self._enter(session_id, "idle")

    def leave(self, session_id: str) -> None:
        """A session has ended; one that never began may leave too."""
        self._talks.pop(session_id, None)
        self._states.pop(session_id, None)
        self._moved.set()

    @contextmanager
    def session(self, session_id: str, talk: Talk) -> Iterator[None]:
        """`join`, and `leave` whatever happens."""
        self.join(session_id, talk)
        try:
            yield
        finally:
            self.leave(session_id)

    def publish(self, session_id: str, event: Event) -> None:
        """A session's client is being told this. Never waits, never raises."""
        for watcher in tuple(self._watchers):
            try:
                watcher(session_id, event)
            except Exception:  # a watcher is not the session's business
                log.exception("a watcher failed")
        match event:
            case SpeechStarted():
                self._enter(session_id, "listening")
            case TurnEnded(replies=replies):
                self._enter(session_id, "thinking" if replies else "idle")
            case ReplyStarted() | ReplyText():
                if self._states.get(session_id) != "speaking":
                    self._enter(session_id, "thinking")
            case ReplyAudio():
                self._enter(session_id, "speaking")
            case ReplyEnded() if self._states.get(session_id) == "listening":
                pass  # it was interrupted: somebody speaks
            case ReplyEnded() | Finished():
                self._enter(session_id, "idle")
            case _:
                pass

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher(session_id, event)` with all that follows; calling the result ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    async def say(self, text: str) -> None:
        """Say something in every session."""
        await self._all(lambda talk: Announce(talk.next_turn(), text))

    async def stop(self) -> None:
        """Stop the replies of all sessions."""
        await self._all(lambda talk: Interrupt())

    def listen(self, on: bool) -> None:
        """Hear what clients send, or silence in its place."""
        self.listening = on

    def volume(self, gain: float) -> None:
        """Scale reply audio.

        Args:
            gain: 0 is silence, 1 is as the voice speaks; what lies outside is cut to that.
        """
        self.gain = min(1.0, max(0.0, gain))

    async def _all(self, command: Callable[[Talk], Command]) -> None:
        told = [talk.push(command(talk)) for talk in self._talks.values()]
        for outcome in await asyncio.gather(*told, return_exceptions=True):
            if isinstance(outcome, TextproError):  # a session that just ended
                log.info("a session did not take a command: %s", outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    def _enter(self, session_id: str, state: SessionState) -> None:
        if session_id in self._talks:
            self._states[session_id] = state
            self._moved.set()
