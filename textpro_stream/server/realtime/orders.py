"""What the protocol asks of the conversation, and of the writer, as values.

`Stop`, `Drop` are carried out at once; all others in their order, behind audio that came before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import Message, ReplyOptions
from textpro_stream.server.realtime.incoming import Json


@dataclass(frozen=True, slots=True, eq=False)
class Hear:
    """Audio came in."""

    samples: NDArray[np.float32]  # (n,) at 16 kHz


@dataclass(frozen=True, slots=True)
class Press:
    """A turn begins, whatever the VAD says."""


@dataclass(frozen=True, slots=True)
class Release:
    """The open turn is over."""


@dataclass(frozen=True, slots=True)
class Clear:
    """The open turn was nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Configure:
    """Settings changed."""

    changes: Json  # arguments of Conversation.configure


@dataclass(frozen=True, slots=True)
class Add:
    """Remember a message."""

    message: Message
    after: str | None  # id; None: at the end, "": first


@dataclass(frozen=True, slots=True)
class Remove:
    """Forget a message."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Truncate:
    """Remember only the beginning of a reply."""

    message_id: str
    characters: int


@dataclass(frozen=True, slots=True)
class Respond:
    """Make a reply."""

    response_id: str
    options: ReplyOptions


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the reply to a turn, or let it not begin."""

    turn: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Take back audio of a response that has not been written yet."""

    response_id: str


Order = Hear | Press | Release | Clear | Configure | Add | Remove | Truncate | Respond | Stop | Drop
