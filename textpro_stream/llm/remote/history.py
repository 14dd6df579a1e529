"""What a conversation with a remote LLM remembers: messages, as text. Knows no server.

The oldest turns are forgotten as a whole where the context is too small.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from textpro_stream.contracts import Message
from textpro_stream.errors import StageError

FORGOTTEN = 1024  # messages whose ids are still known

Messages = tuple[Message, ...]


class TextHistory:
    """Messages, oldest first. Edits only give what would be: whoever knows the room takes it."""

    def __init__(self) -> None:
        self.messages: Messages = ()
        self._forgotten: deque[str] = deque(maxlen=FORGOTTEN)

    def added(self, message: Message, after: str | None) -> Messages:
        """With a message after the one with the id `after`; "" = first, None = last.

        After one that had to be forgotten is the beginning of what is left.

        Raises:
            StageError: its id is known already, or `after` is not.
        """
        if message.id in self._ids:
            raise StageError(f"there is a message {message.id!r} already; give another id")
        if after is None:
            at = len(self.messages)
        elif not after or (after not in self._ids and after in self._forgotten):
            at = 0
        else:
            at = self._index(after) + 1
        return (*self.messages[:at], message, *self.messages[at:])

    def removed(self, message_id: str) -> Messages:
        """Without a message.

        Raises:
            StageError: there is none with this id.
        """
        at = self._index(message_id)
        return self.messages[:at] + self.messages[at + 1 :]

    def truncated(self, message_id: str, characters: int) -> Messages:
        """With only the beginning of a reply; the functions that it asked for stay.

        Raises:
            StageError: there is no such message, or it is no reply.
        """
        at = self._index(message_id)
        message = self.messages[at]
        if message.role != "assistant":
            raise StageError(f"message {message_id!r} is no reply; only replies can be cut")
        cut = replace(message, text=message.text[: max(0, characters)])
        return (*self.messages[:at], cut, *self.messages[at + 1 :])

    def forget_until(self, fits: Callable[[Messages], bool]) -> bool:
        """Forget the oldest turns until the rest fits; whether any had to be."""
        kept = fitting(self.messages, fits)
        gone = len(self.messages) - len(kept)
        self._forgotten.extend(message.id for message in self.messages[:gone])
        self.messages = kept
        return gone > 0

    @property
    def _ids(self) -> set[str]:
        return {message.id for message in self.messages}

    def _index(self, message_id: str) -> int:
        for i, message in enumerate(self.messages):
            if message.id == message_id:
                return i
        raise StageError(f"there is no message {message_id!r}; it may have been forgotten")


def fitting(messages: Messages, fits: Callable[[Messages], bool]) -> Messages:
    """The longest run of whole turns at the end that fits."""
    for start in _turn_starts(messages):
        if fits(messages[start:]):
            return messages[start:]
    return ()


def _turn_starts(messages: Sequence[Message]) -> Iterator[int]:
    """Where turns begin: at the user's words, and at what follows a reply unasked."""
    before: Message | None = None
    for i, message in enumerate(messages):
        replied = before is not None and before.role == "assistant" and not before.calls
        if before is None or message.role == "user" or (replied and message.role != "tool"):
            yield i
        before = message
