"""What a conversation remembers: messages as rows, and the template's pieces around them.

    opening | words | piece | words | piece | ... | open turn

Lists only: what stands in the cache is `cache.py`'s affair, the open turn `dialogue.py`'s. When
the context is full the oldest turns are forgotten, whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Message, Tool
from textpro_stream.errors import ConfigError, StageError, WeightsError
from textpro_stream.llm.chat import Chat, Frame, Part
from textpro_stream.llm.fusion import Row

FORGOTTEN = 1024  # messages whose ids are still known
USUAL_WORDS = 128  # rows of a long spoken turn: a minute of talk


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as it stands in the cache."""

    message: Message
    rows: tuple[Row, ...]  # of its words
    ends: tuple[int, ...] = ()  # characters of the message's text that end with each row
    made: bool = False  # by the LLM itself: its rows hold its calls too

    @property
    def part(self) -> Part:
        """How the template sees it."""
        calls = () if self.made else self.message.calls
        return Part(self.message.role, calls, wordless=bool(calls) and not self.rows)


@dataclass(frozen=True, slots=True)
class _Setting:
    """What the template says besides the messages, and the rows that it takes."""

    prompt: str
    tools: tuple[Tool, ...]
    header: int  # between the user's words and the reply
    after_reply: int  # between a reply and the next user's words
    reserve: int  # of a turn, all that is not the user's: a longest reply and the two above


class History:
    """The messages of one conversation.

    Args:
        chat: tokenizer and template.
        options: system prompt, length of a reply, context.
        tools: functions that the model may ask for.
        capacity: rows that the context has.

    Raises:
        ConfigError: the system prompt leaves no room in the context.
    """

    def __init__(
        self, chat: Chat, options: LlmOptions, tools: tuple[Tool, ...], capacity: int
    ) -> None:
        self._chat, self._capacity = chat, capacity
        self._entries: list[Entry] = []  # oldest first
        self._forgotten: deque[str] = deque(maxlen=FORGOTTEN)  # ids, for want of room
        self._setting = self._setting_of(options, tools)
        self._open()

    def configure(self, options: LlmOptions, tools: tuple[Tool, ...]) -> None:
        """Take options over, and let a user's turn be open.

        Raises:
            ConfigError: their system prompt leaves no room, or the template cannot tell it;
                everything stays as it was.
        """
        before, self._setting = self._setting, self._setting_of(options, tools)
        try:
            self._open()
        except WeightsError as error:
            self._setting = before
            raise ConfigError(f"[llm] the conversation cannot go on so: {error}") from error

    def _setting_of(self, options: LlmOptions, tools: tuple[Tool, ...]) -> _Setting:
        pieces = self._chat.pieces(options.system_prompt, tools)
        header, after_reply = len(pieces.suffix), len(pieces.between)
        reserve = header + after_reply + min(options.max_tokens, self._capacity // 4)
        opening = len(pieces.opening)
        if opening + reserve >= self._capacity:
            raise ConfigError(
                f"[llm] context {self._capacity} is too small for a system prompt of"
                f" {opening} rows and a reply; raise it or shorten the prompt"
            )
        return _Setting(options.system_prompt, tools, header, after_reply, reserve)

    @property
    def entries(self) -> Sequence[Entry]:
        """Oldest first."""
        return self._entries

    @property
    def rows(self) -> Sequence[Row]:
        """All that stands before the open turn."""
        return self._rows

    @property
    def suffix(self) -> tuple[int, ...]:
        """What stands between the open user's words and the reply; nothing if there are none."""
        return self._frame.suffix

    @property
    def user_is_next(self) -> bool:
        """A user's turn is open; otherwise what is remembered is to be answered."""
        return self._user_is_next

    @property
    def room(self) -> int:
        """Rows for all that is remembered and the open turn's words; the rest is the reply's."""
        # Where the assistant is next, what stands before its reply is among `rows` already.
        header = 0 if self._user_is_next else self._setting.header
        return self._capacity - self._setting.reserve + header

    @property
    def after_reply(self) -> int:
        """Rows that close a reply."""
        return self._setting.after_reply

    def turn_to(self, *, user: bool) -> None:
        """Let a user's turn be open after what is remembered, or the assistant's."""
        if user != self._user_is_next:
            self._open(user=user)

    def _open(self, *, user: bool = True) -> None:
        setting, parts = self._setting, [entry.part for entry in self._entries]
        self._frame: Frame = self._chat.frame(setting.prompt, parts, setting.tools, user=user)
        self._user_is_next = user
        self._rows: list[Row] = list(self._frame.pieces[0])
        pieces = iter(self._frame.pieces[1:])
        for entry in self._entries:
            if not entry.part.wordless:
                self._rows += [*entry.rows, *next(pieces)]

    def entry(self, message: Message) -> Entry:
        """A message's words as rows.

        Raises:
            StageError: they are more than the context has room for.
        """
        ids, spans = self._chat.encode(message.text)
        if len(ids) > self._capacity - self._setting.reserve - len(self._frame.pieces[0]):
            raise StageError(
                f"message {message.id!r} has {len(ids)} rows, more than [llm] context"
                f" {self._capacity} has room for; shorten it or raise the context"
            )
        return Entry(message, tuple(ids), tuple(end for _, end in spans))

    def append(self, entries: Sequence[Entry]) -> None:
        """Remember what a turn left, and let the next one be open."""
        self._entries += entries
        self._open()

    def make_room(self) -> None:
        """Where another turn of usual length might not fit, forget until half is free."""
        usual = min(self._setting.reserve + USUAL_WORDS, self._capacity // 2)
        if len(self._rows) + usual > self._capacity:
            self.fit(0, self._capacity // 2)

    def take(self, entries: list[Entry], *, beside: int = 0, new: Entry | None = None) -> None:
        """Remember these instead, the oldest turns left out where the context is too small.

        Args:
            entries: oldest first.
            beside: rows of the open turn.
            new: one of them, which has to find room.

        Raises:
            StageError: the template cannot tell them, or there is no room for the new one;
                everything stays as it was.
        """
        before, user = self._entries, self._user_is_next
        self._entries = entries
        try:
            self._open()
            self.fit(beside, self.room)
        except WeightsError as error:
            self._back_to(before, user)
            raise StageError(f"the messages cannot be told to this LLM: {error}") from error
        if new is not None and not any(entry is new for entry in self._entries):
            self._back_to(before, user)
            raise StageError(
                f"there is no room for message {new.message.id!r} in [llm] context"
                f" {self._capacity}; shorten it, remove others or raise the context"
            )

    def add(self, message: Message, after: str | None, *, beside: int) -> None:
        """Remember a message after the one with the id `after`; "" = first, None = last.

        After one that had to be forgotten is the beginning of what is left.

        Raises:
            StageError: as `take`, or its id is known already, or `after` is not.
        """
        if any(entry.message.id == message.id for entry in self._entries):
            raise StageError(f"there is a message {message.id!r} already; give another id")
        at = self._place_after(after)
        entry = self.entry(message)
        self.take([*self._entries[:at], entry, *self._entries[at:]], beside=beside, new=entry)

    def remove(self, message_id: str, *, beside: int) -> None:
        """Forget a message.

        Raises:
            StageError: as `take`, or there is none with this id.
        """
        at = self._index(message_id)
        self.take([*self._entries[:at], *self._entries[at + 1 :]], beside=beside)

    def truncate(self, message_id: str, characters: int, *, beside: int) -> bool:
        """Of a reply, remember only the beginning, and the token that holds its last character.

        Returns:
            Whether there was anything to cut.

        Raises:
            StageError: as `take`, or there is no such message, or it is no reply.
        """
        at = self._index(message_id)
        entry = self._entries[at]
        if entry.message.role != "assistant":
            raise StageError(f"message {message_id!r} is no reply; only replies can be cut")
        if characters >= len(entry.message.text):
            return False
        text = entry.message.text[: max(0, characters)]
        if entry.made and entry.message.calls:  # they stood among its words, and go
            cut = self.entry(replace(entry.message, text=text, calls=()))
        else:
            n = 0
            while n < len(entry.ends) and (entry.ends[n - 1] if n else 0) < len(text):
                n += 1
            message = replace(entry.message, text=text)
            cut = replace(entry, message=message, rows=entry.rows[:n], ends=entry.ends[:n])
        self.take([*self._entries[:at], cut, *self._entries[at + 1 :]], beside=beside)
        return True

    def fit(self, beside: int, limit: int) -> None:
        """Forget the oldest turns until the rest, with `beside` more rows, fits into `limit`."""
        # Again if the pieces around what stays have become longer.
        while self._entries and (over := len(self._rows) + beside - limit) > 0:
            gone = 0
            for rows, (_, end) in zip(self._turn_sizes(), self._turns(), strict=True):
                gone, over = end, over - rows
                if over <= 0:
                    break
            self._forgotten.extend(entry.message.id for entry in self._entries[:gone])
            self._entries = self._entries[gone:]
            self._open(user=self._user_is_next or not self._entries)

    def _back_to(self, entries: list[Entry], user: bool) -> None:
        self._entries = entries
        self._open(user=user)

    def _place_after(self, message_id: str | None) -> int:
        """Where what follows a message goes: at the beginning if it is forgotten."""
        if message_id is None:
            return len(self._entries)
        known = any(entry.message.id == message_id for entry in self._entries)
        if not message_id or (not known and message_id in self._forgotten):
            return 0
        return self._index(message_id) + 1

    def _index(self, message_id: str) -> int:
        for i, entry in enumerate(self._entries):
            if entry.message.id == message_id:
                return i
        raise StageError(f"there is no message {message_id!r}; it may have been forgotten")

    def _turn_sizes(self) -> list[int]:
        """Rows of each turn, marks included, oldest first."""
        return [
            sum(len(entry.rows) for entry in self._entries[first:end])
            + sum(map(len, self._pieces_after(first, end)))
            for first, end in self._turns()
        ]

    def _turns(self) -> list[tuple[int, int]]:
        """Where each turn's entries begin and end: up to a reply, or to the next user's words."""
        starts = [i for i in range(len(self._entries)) if self._begins_turn(i)]
        ends = [*starts[1:], len(self._entries)][: len(starts)]
        return list(zip(starts, ends, strict=True))

    def _begins_turn(self, index: int) -> bool:
        message = self._entries[index].message
        if not index or message.role == "user":
            return True
        before = self._entries[index - 1].message
        replied = before.role == "assistant" and not before.calls
        return replied and message.role != "tool"  # what is announced is a turn of its own

    def _pieces_after(self, first: int, end: int) -> Sequence[tuple[int, ...]]:
        """The template's pieces after some entries."""
        before = sum(not entry.part.wordless for entry in self._entries[:first])
        count = sum(not entry.part.wordless for entry in self._entries[first:end])
        return self._frame.pieces[1 + before : 1 + before + count]
