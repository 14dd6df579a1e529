"""What waits for the broker: bounded, and nothing ever waits for it.

Of a retained topic only the newest value matters. Of the passing messages the oldest go first when
there are too many, so that a broker which is away for a night costs no memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

PASSING_MAX = 256  # messages; some minutes of a busy house


@dataclass(frozen=True, slots=True)
class Message:
    """One message to a topic."""

    topic: str
    payload: str
    retain: bool = False


class Backlog:
    """Messages on their way out; one taker."""

    def __init__(self, limit: int = PASSING_MAX) -> None:
        self._limit = limit
        self._passing: deque[Message] = deque()
        self._kept: dict[str, Message] = {}  # newest of each retained topic
        self._unsent: dict[str, Message] = {}  # those of them that the broker has not got
        self._some = asyncio.Event()
        self.dropped = 0  # passing messages that nobody will see

    def __len__(self) -> int:
        return len(self._passing) + len(self._unsent)

    def keep(self, topic: str, payload: str) -> None:
        """The value of a retained topic; nothing happens if it is the same."""
        message = Message(topic, payload, retain=True)
        if self._kept.get(topic) != message:
            self._kept[topic] = self._unsent[topic] = message
            self._some.set()

    def push(self, topic: str, payload: str) -> None:
        """A message for those who listen at the moment."""
        self._passing.append(Message(topic, payload))
        if len(self._passing) > self._limit:
            self._passing.popleft()
            self.dropped += 1
        self._some.set()

    def resend(self, *topics: str) -> None:
        """The broker, or somebody behind it, may have forgotten these; all without names."""
        self._unsent |= {topic: self._kept[topic] for topic in topics or self._kept}
        self._some.set()

    def nudge(self) -> None:
        """There may be something new to keep: let the taker look."""
        self._some.set()

    async def wait(self) -> None:
        """Return when there is something to take, or to look at."""
        await self._some.wait()

    def take(self) -> Message | None:
        """The next message, retained values first."""
        if self._unsent:
            return self._unsent.pop(next(iter(self._unsent)))
        if self._passing:
            return self._passing.popleft()
        self._some.clear()
        return None

    def give_back(self, message: Message) -> None:
        """It could not be sent. A newer value, or a full backlog, takes its place."""
        if message.retain:
            self._unsent.setdefault(message.topic, self._kept[message.topic])
        elif len(self._passing) < self._limit:
            self._passing.appendleft(message)
        else:
            self.dropped += 1
        self._some.set()
