"""What the ear, and whoever holds a conversation, tell its mind to do. Obeyed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Message, ReplyOptions, TokenSpan, Tool
from textpro_stream.telemetry.marks import TurnMarks


@dataclass(frozen=True, slots=True)
class Hear:
    """Words were committed."""

    turn: int
    spans: Sequence[TokenSpan]


@dataclass(frozen=True, slots=True)
class Pause:
    """The turn may be over, with these words after the committed ones."""

    turn: int
    tail: Sequence[TokenSpan]
    marks: TurnMarks


@dataclass(frozen=True, slots=True)
class Resume:
    """It was not over."""

    turn: int


@dataclass(frozen=True, slots=True)
class Say:
    """Words were typed."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """It is over: reply."""

    turn: int
    marks: TurnMarks


@dataclass(frozen=True, slots=True)
class Keep:
    """It is over: remember it, without a reply."""

    turn: int


@dataclass(frozen=True, slots=True)
class Dismiss:
    """It is over, and nothing of it is to be remembered."""

    turn: int


@dataclass(frozen=True, slots=True)
class Respond:
    """Reply to what is remembered."""

    turn: int
    options: ReplyOptions
    marks: TurnMarks


@dataclass(frozen=True, slots=True)
class Announce:
    """Say this, and remember it as a reply."""

    turn: int
    text: str
    marks: TurnMarks


@dataclass(frozen=True, slots=True)
class Configure:
    """How replies are made from here on; None leaves as it is."""

    turn: int
    llm: LlmOptions | None
    tools: Sequence[Tool] | None
    voice: bool | None
    speed: float | None


@dataclass(frozen=True, slots=True)
class Add:
    """Remember a message."""

    turn: int
    message: Message
    after: str | None


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget a message."""

    turn: int
    message_id: str


@dataclass(frozen=True, slots=True)
class Truncate:
    """Remember only the beginning of a reply."""

    turn: int
    message_id: str
    characters: int


@dataclass(frozen=True, slots=True)
class Rest:
    """Nobody speaks: give the cache's memory back until somebody does."""

    turn: int


Order = (
    Hear
    | Pause
    | Resume
    | Say
    | Answer
    | Keep
    | Dismiss
    | Respond
    | Announce
    | Configure
    | Add
    | Remove
    | Truncate
    | Rest
)
