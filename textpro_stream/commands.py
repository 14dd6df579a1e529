"""What a conversation is told, as one union: the twin of `events.py`.

All are values that can be written down and read again (`wire.py`), so a conversation can be logged,
recorded and told from another process. Commands stand in one queue with the audio and are obeyed
after the audio that came before them; only `Interrupt` and `Played` count at once. `match` a
command and close with `assert_never`.

A command that brings a reply carries the number of its turn, from `Talk.next_turn`: whoever asks
knows at once which events will answer, and can interrupt what has not begun.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.contracts import Message, ReplyOptions, Tool

InterruptReason = Literal["barge_in", "cancelled"]


@dataclass(frozen=True, slots=True)
class Press:
    """Push-to-talk: the key went down. A turn begins, whatever the VAD says."""

    interrupts: bool = True  # a reply being given


@dataclass(frozen=True, slots=True)
class Release:
    """Push-to-talk: the key went up. The turn is over."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget the open turn: nothing of it is remembered, and no `TurnEnded` comes."""


@dataclass(frozen=True, slots=True)
class Say:
    """A turn that is typed instead of spoken. A reply being given is interrupted."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Respond:
    """Reply to what is remembered; what is being said meanwhile is left out."""

    turn: int
    options: ReplyOptions = field(default_factory=ReplyOptions)


@dataclass(frozen=True, slots=True)
class Announce:
    """Say this aloud, and remember it as a reply."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Configure:
    """Go on in another way. None leaves a thing as it is."""

    turn: TurnOptions | None = None  # rules about turns; an open one goes on under them
    llm: LlmOptions | None = None  # prompt, sampling, length; the model and its dtype stay
    tools: tuple[Tool, ...] | None = None  # functions that the LLM may ask for
    replies: bool | None = None  # False: an endpoint is remembered, and brings no reply by itself
    voice: bool | None = None  # False: replies are text alone
    speed: float | None = None  # of the voice, 0.25 to 1.5; 1 is its own


@dataclass(frozen=True, slots=True)
class Add:
    """Remember a message without replying to it."""

    message: Message
    after: str | None = None  # id of the one before it; "" = first, None = last


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget a message. A turn n leaves `u{n}` and `a{n}`."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Truncate:
    """Of a reply, remember only the beginning."""

    message_id: str
    characters: int


@dataclass(frozen=True, slots=True)
class Rest:
    """Nobody speaks: give the memory of the LLM's cache back until it is needed again."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """At once: stop the reply being given and those that were asked for, or the one to `turn`."""

    reason: InterruptReason = "cancelled"
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Played:
    """At once: a player tells how much of a reply has left the loudspeaker.

    Without such reports, audio is taken to be heard as soon as it could be.
    """

    turn: int
    samples: int  # at the voice's rate, since the reply's audio began


@dataclass(frozen=True, slots=True)
class Finish:
    """No more audio comes: an open turn ends, its reply is given, then comes `Finished`."""


Change = Configure | Add | Remove | Truncate  # of what is remembered, or of how to reply
Command = (
    Press | Release | Clear | Say | Respond | Announce | Change | Rest | Interrupt | Played | Finish
)
