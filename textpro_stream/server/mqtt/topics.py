"""The topics: what is said under which, and where commands go.

One table for the bridge, the discovery message and the documentation (docs/mqtt.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from textpro_stream.ports import SessionState

ONLINE, OFFLINE = "online", "offline"
ON, OFF = "ON", "OFF"
STATES: tuple[SessionState, ...] = get_args(SessionState)
EVENTS = ("turn", "barge_in", "reply", "error")


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics under one base."""

    base: str

    @property
    def status(self) -> str:
        """`online`, or `offline` (also our last will). Retained."""
        return f"{self.base}/status"

    @property
    def state(self) -> str:
        """One of `STATES`. Retained."""
        return f"{self.base}/state"

    @property
    def sessions(self) -> str:
        """How many conversations are open. Retained."""
        return f"{self.base}/sessions"

    @property
    def listen(self) -> str:
        """`ON` or `OFF`: whether microphones are heard. Retained."""
        return f"{self.base}/listen"

    @property
    def volume(self) -> str:
        """0 to 100: loudness of replies. Retained."""
        return f"{self.base}/volume"

    @property
    def latency(self) -> str:
        """JSON of a turn's marks."""
        return f"{self.base}/latency"

    @property
    def tone(self) -> str:
        """JSON of how a turn sounds; only where text was asked for."""
        return f"{self.base}/tone"

    @property
    def event(self) -> str:
        """JSON with `event_type`, one of `EVENTS`."""
        return f"{self.base}/event"

    @property
    def transcript(self) -> str:
        """What was said, turn by turn; only where text was asked for."""
        return f"{self.base}/transcript"

    @property
    def reply(self) -> str:
        """What was answered; only where text was asked for."""
        return f"{self.base}/reply"

    def command(self, name: str) -> str:
        """The topic that a command is sent to."""
        return f"{self.base}/{name}/set"

    def command_of(self, topic: str) -> str:
        """The command's name, the other way round."""
        return topic.removeprefix(f"{self.base}/").removesuffix("/set")

    @property
    def retained(self) -> tuple[str, ...]:
        """All that a broker keeps of us, besides the discovery message."""
        return (self.status, self.state, self.sessions, self.listen, self.volume)
