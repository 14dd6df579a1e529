"""One conversation's memory: messages in a KV cache, and the reply that is drafted behind them.

What the cache shall hold is kept as a list of rows, so every change is the same move: compare the
list wanted with the list held, crop to the common beginning, append the rest. Committed words,
drafts, resumed turns, what was heard of a reply, messages added, removed or cut: all are lists.

    opening | words | piece | words | piece | ... | open user's words | suffix | reply

The cache itself can be given back at any time; it is built anew from the list. Knows nothing of
audio, time or tasks: the pipeline calls it on the device's thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Message, Observer, Session, TokenSpan, Tool, ToolCall
from textpro_stream.errors import ConfigError, StageError, WeightsError
from textpro_stream.llm.chat import Frame, Part
from textpro_stream.llm.fusion import Row, Said, rows_of
from textpro_stream.llm.reply import Reason, Reply
from textpro_stream.llm.sampling import Sampler
from textpro_stream.llm.tools import CallSplitter

if TYPE_CHECKING:
    from textpro_stream.llm.model import LanguageModel


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as it stands in the cache."""

    message: Message
    rows: tuple[Row, ...]  # of its words
    ends: tuple[int, ...]  # characters of the message's text that stand behind each row
    made: bool = False  # by the LLM itself: its rows hold its calls too

    @property
    def part(self) -> Part:
        """How the template sees it."""
        calls = () if self.made else self.message.calls
        return Part(self.message.role, calls, wordless=bool(calls) and not self.rows)


class Dialogue:
    """One conversation's memory over a session.

    Opening it prefills what stands before the first user's words, so nobody waits for that later.
    Per turn: any number of `hear`, `say`, `draft` and `resume`; then `draft`, `reply`, `end_turn`.
    Between them messages may be added, removed and cut; a standing draft is then dropped.
    `make_room` in idle time.

    Args:
        model: shared weights.
        options: sampling, system prompt, context.
        observer: told of "prefill" and "decode".
        tools: functions that the model may ask for.

    Raises:
        ConfigError: the system prompt leaves no room in the context.
    """

    def __init__(
        self,
        model: LanguageModel,
        options: LlmOptions,
        observer: Observer,
        tools: Sequence[Tool] = (),
    ) -> None:
        self._model, self._observer = model, observer
        self._stops = model.chat.stop_ids()
        self._capacity = min(options.context, model.backbone.context)
        self._entries: list[Entry] = []  # oldest first
        self._spans: list[TokenSpan] = []  # committed in the open turn
        self._draft: list[Row] | None = None  # user rows of the standing draft
        self._text = ""  # the open turn's words as its rows have them, those of the draft included
        self._reply: Reply | None = None  # of the standing draft
        self._excess = 0  # rows of the open turn that found no room
        self._cut = False  # and that this was told
        self._count = 0  # turns ever finished
        self._decoded = 0  # reply tokens of replies that are over
        self._kv: Session | None = None
        self._cache: list[Row] = []  # what it holds
        self._rows: list[Row] = []  # what it shall hold
        self._set(options, tuple(tools))
        self._follow([])

    def _set(self, options: LlmOptions, tools: tuple[Tool, ...]) -> None:
        """Take options over if their system prompt fits."""
        pieces = self._model.chat.pieces(options.system_prompt, tools)
        # Rows of a turn that are not the user's: the reply, and the marks around it.
        marks = len(pieces.suffix) + len(pieces.between)
        behind = marks + min(options.max_tokens, self._capacity // 4)
        opening = len(pieces.opening)
        if opening + behind >= self._capacity:
            raise ConfigError(
                f"[llm] context {self._capacity} is too small for a system prompt of"
                f" {opening} rows and a reply; raise it or shorten the prompt"
            )
        self._options, self._tools, self._behind = options, tools, behind
        self._header, self._behind_reply = len(pieces.suffix), len(pieces.between)
        self._reframe()

    def configure(self, options: LlmOptions, tools: Sequence[Tool]) -> None:
        """Go on with another system prompt, sampling, length or tools. The context stays.

        Raises:
            ConfigError: the system prompt leaves no room; everything stays as it was.
        """
        self._set(options, tuple(tools))
        self._changed()

    @property
    def knows_tools(self) -> bool:
        """The model's template shows it tools; otherwise they are left out."""
        return self._model.chat.knows_tools

    @property
    def messages(self) -> tuple[Message, ...]:
        """What is remembered, oldest first; the open turn is not among it."""
        return tuple(entry.message for entry in self._entries)

    def add(self, message: Message, after: str | None = None) -> None:
        """Remember a message.

        Args:
            message: its words are only words, whatever marks are in them.
            after: id of the one before it; "" puts it first, None last.

        Raises:
            StageError: its id is known already, `after` is not, the context has no room for it
                where it shall stand, or the template no place; the messages stay as they were.
        """
        if any(entry.message.id == message.id for entry in self._entries):
            raise StageError(f"there is a message {message.id!r} already; give another id")
        at = len(self._entries) if after is None else 0 if not after else self._index(after) + 1
        entry = self._entry(message)
        self._take([*self._entries[:at], entry, *self._entries[at:]], new=entry)

    def remove(self, message_id: str) -> None:
        """Forget a message.

        Raises:
            StageError: there is none with this id.
        """
        at = self._index(message_id)
        self._take([*self._entries[:at], *self._entries[at + 1 :]])

    def truncate(self, message_id: str, characters: int) -> None:
        """Of a reply, remember only the beginning, and the token that holds its last character.

        Raises:
            StageError: there is no such message, or it is no reply.
        """
        at = self._index(message_id)
        entry = self._entries[at]
        if characters >= len(entry.message.text) and entry.message.role == "assistant":
            return
        if entry.message.role != "assistant":
            raise StageError(f"message {message_id!r} is no reply; only replies can be cut")
        text = entry.message.text[: max(0, characters)]
        if entry.made and entry.message.calls:  # they stood among its words, and go
            cut = self._entry(replace(entry.message, text=text, calls=()))
        else:
            n = 0
            while n < len(entry.ends) and (entry.ends[n - 1] if n else 0) < len(text):
                n += 1
            message = replace(entry.message, text=text)
            cut = replace(entry, message=message, rows=entry.rows[:n], ends=entry.ends[:n])
        self._take([*self._entries[:at], cut, *self._entries[at + 1 :]])

    def aside(
        self, messages: Sequence[Message], options: LlmOptions, tools: Sequence[Tool]
    ) -> Dialogue:
        """Another memory with just these messages, over the same weights.

        Raises:
            ConfigError: the system prompt leaves no room.
            StageError: a message is longer than the context, or the template has no place for it.
        """
        side = Dialogue(self._model, options, self._observer, tools)
        side._take([side._entry(message) for message in messages])
        return side

    def free(self) -> None:
        """Give the cache's memory back. What needs it next builds it anew, whatever had failed."""
        self._kv, self._cache = None, []

    @property
    def rows_cached(self) -> int:
        """Rows that the cache holds now; none after `free`."""
        return len(self._cache)

    @property
    def length(self) -> int:
        """Rows that the cache holds, or will once it is needed."""
        return len(self._rows)

    @property
    def rows_of_turns(self) -> tuple[int, ...]:
        """Rows of each turn that is still remembered, marks included, oldest first."""
        return tuple(
            sum(len(entry.rows) for entry in self._entries[first:end])
            + sum(map(len, self._behind_words(first, end)))
            for first, end in self._turns()
        )

    @property
    def tokens_decoded(self) -> int:
        """Reply tokens decoded in this conversation, discarded drafts included."""
        return self._decoded + (len(self._reply.tokens) if self._reply else 0)

    @property
    def reason(self) -> Reason:
        """Why the standing reply ended; "" while it has not."""
        return self._reply.reason if self._reply else ""

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Functions that the standing reply asks for; known once it has ended."""
        if not self._reply or not self._reply.reason or not self._tools:
            return ()
        return _split(self._reply.texts)[1]

    def begin(self) -> None:
        """Begin the turn anew, as if nothing had been said in it: a fresh one needs no call."""
        self._forget_reply()
        self._frame_for(user=True)
        self._begin()

    def _begin(self) -> None:
        self._spans, self._excess, self._cut, self._text = [], 0, False, ""
        self._follow([])

    def hear(self, spans: Sequence[TokenSpan]) -> None:
        """Append committed whole words to the open turn.

        A standing draft whose words these are stays as it is, reply and all; any other is dropped.

        Raises:
            StageError: once in a turn that is longer than the context; what fitted was taken.
        """
        if not spans:
            return
        self._spans += spans
        drafted = self._text
        rows = self._user_rows((), whole=False)
        # Rows may be held back until the turn is whole: only the text has all that was said.
        stands = self._draft is not None and self._draft[: len(rows)] == rows
        if not stands or not drafted.startswith(self._text):
            self._forget_reply()
            self._frame_for(user=True)
            self._follow(rows)
        else:
            self._text = drafted
        self._tell_of_cut()

    def say(self, text: str) -> None:
        """Append typed text to the open turn, as `hear` appends spoken words."""
        gap = " " if self._spans and not text[:1].isspace() else ""
        self.hear([TokenSpan((), gap + text, 0, 0, 0.0, torch.empty(0, 0))])

    def draft(self, tail: Sequence[TokenSpan] = ()) -> None:
        """Append what is still provisional and the assistant's header, as if the turn were over.

        With nothing said in the open turn, what is remembered is to be answered. If that is the
        draft that stands already, its reply goes on where it was.

        Args:
            tail: the open hypothesis, behind the committed words.

        Raises:
            StageError: as `hear`; the draft stands.
        """
        rows = self._user_rows(tail, whole=True)
        if self._draft != rows:
            self._forget_reply()
            self._frame_for(user=bool(rows) or not self._entries)
            self._follow([*rows, *self._frame.suffix])
            self._draft = rows
        self._tell_of_cut()

    def resume(self) -> None:
        """Drop the draft: the user went on."""
        self._forget_reply()
        self._frame_for(user=True)
        self._follow(self._user_rows((), whole=False))

    def reply(self) -> Iterator[str]:
        """Decode the reply to the draft, token by token as the iterator is drawn.

        Yields pieces of whole characters; a second call gives the same reply from its beginning,
        and computes only what is new. The iterator may be left at any time, and ends by itself
        when the draft is dropped. `reason` tells why it ended.
        """
        if self._draft is None:
            self.draft()
        if self._reply is None:
            seed = self._options.seed + self._count  # a draft taken again says the same
            sampler = Sampler(self._options, seed, self._model.device)
            text = self._model.chat.text_stream(hidden=self._model.fusion.marker)
            self._reply = Reply(text, sampler, self._stops, self._options.max_tokens)
        return self._pieces_of(self._reply)

    def end_turn(
        self, heard_characters: int | None = None, *, user: str = "", reply: str = ""
    ) -> None:
        """Close the turn as it was heard, and open the next.

        Args:
            heard_characters: characters of the reply that were heard; the token holding the last of
                them stays, what follows is forgotten. None: all that was drawn.
            user: id of the message that the user's words become.
            reply: the same for the reply; there is none if none was drawn.

        A turn in which nothing was said leaves everything as it was, but for a reply.
        """
        said = self._draft if self._draft is not None else self._user_rows((), whole=True)
        self._count += bool(said) or self._reply is not None
        if said:
            message = Message(user or f"user {self._count}", "user", self._text)
            self._entries.append(Entry(message, tuple(said), ()))
        if self._reply is not None:
            tokens = self._reply.heard(heard_characters)
            texts = self._reply.texts[: len(tokens)]
            calls = self.calls if heard_characters is None else ()
            text = _split(texts)[0] if calls else "".join(texts)
            message = Message(reply or f"reply {self._count}", "assistant", text, calls)
            heard = self._heard_words(self._reply.texts, heard_characters)
            if text.startswith(heard):
                self._entries.append(Entry(message, tuple(tokens), _ends(texts), made=True))
            else:  # a call stood before them
                self._entries.append(self._entry(replace(message, text=heard)))
        self._forget_reply()
        self._reframe()
        self._begin()

    def needs_room(self) -> bool:
        """Whether another turn of usual length might not fit."""
        usual = min(self._behind + 128, self._capacity // 2)
        return bool(self._entries) and len(self._rows) + usual > self._capacity

    def make_room(self) -> None:
        """Forget the oldest turns, whole, until half the context is free; rebuild the cache.

        Takes as long as prefilling what stays: call it while nobody waits. Does nothing while what
        is remembered is being answered.
        """
        if self._user_is_next and self.needs_room():
            held = list(self._held)
            self._fit(len(held), self._capacity // 2)
            self._follow(held)

    def _heard_words(self, texts: Sequence[str], characters: int | None) -> str:
        """The beginning of what was said of a reply; "" if that is all of it."""
        if characters is None or not self._tools:
            return ""
        return _split(texts)[0][: max(0, characters)]

    def _user_rows(self, tail: Sequence[TokenSpan], *, whole: bool) -> list[Row]:
        """The open turn's words as rows, as many as fit once old turns are forgotten."""
        said = Said.of([*self._spans, *tail], self._model.chat.encode)
        rows = rows_of(said, self._model.fusion, whole=whole)
        self._text = said.text
        # Where the assistant is next, what stands before its reply is among the prefix already.
        room = self._capacity - self._behind + (0 if self._user_is_next else self._header)
        remembered = len(self._entries)
        self._fit(len(rows), room)
        if len(self._entries) < remembered:
            self._forget_reply()  # it was drafted behind what is forgotten
        # The beginning of a long turn says what it is about: its end is cut.
        self._excess = max(0, len(self._prefix) + len(rows) - room)
        return rows[: len(rows) - self._excess]

    def _tell_of_cut(self) -> None:
        """Raise once in a turn that is longer than the context."""
        if self._excess and not self._cut:
            self._cut = True
            raise StageError(
                f"the turn is longer than [llm] context {self._capacity} allows: the LLM does not"
                f" read its last {self._excess} rows; raise the context",
                capacity=self._capacity,
                excess=self._excess,
            )

    @property
    def _held(self) -> list[Row]:
        """Rows of the open turn."""
        return self._rows[len(self._prefix) :]

    @property
    def _session(self) -> Session:
        """The cache, holding what it shall."""
        if self._kv is None:
            self._sync()
        assert self._kv is not None
        return self._kv

    def _follow(self, rows: Sequence[Row]) -> None:
        """Bring the cache to what is remembered, and these rows behind it."""
        self._rows = [*self._prefix, *rows]
        self._sync()

    def _sync(self) -> None:
        """Crop the cache to the beginning that it has in common with the rows; append the rest."""
        if self._kv is None:
            self._cache = []
            self._kv = self._model.backbone.open(self._capacity)
        common = 0
        for wanted, held in zip(self._rows, self._cache, strict=False):
            if wanted != held:
                break
            common += 1
        self._kv.crop(common)
        del self._cache[common:]
        missing = self._rows[common:]
        if missing:
            with self._observer.span("prefill"):
                self._kv.prefill(self._model.rows(missing))
            self._cache += missing

    def _frame_for(self, *, user: bool) -> None:
        """Let a user's turn be open behind what is remembered, or the assistant's."""
        if user != self._user_is_next:
            self._reframe(user=user)

    def _reframe(self, *, user: bool = True) -> None:
        """Put the template's pieces around what is remembered."""
        chat, prompt = self._model.chat, self._options.system_prompt
        parts = [entry.part for entry in self._entries]
        self._user_is_next = user
        self._frame: Frame = chat.frame(prompt, parts, self._tools, user=user)
        self._opening = self._frame.pieces[0]
        self._prefix: list[Row] = list(self._opening)
        pieces = iter(self._frame.pieces[1:])
        for entry in self._entries:
            if not entry.part.wordless:
                self._prefix += [*entry.rows, *next(pieces)]

    def _entry(self, message: Message) -> Entry:
        ids, spans = self._model.chat.encode(message.text)
        if len(ids) > self._capacity - self._behind - len(self._opening):
            raise StageError(
                f"message {message.id!r} has {len(ids)} rows, more than [llm] context"
                f" {self._capacity} has room for; shorten it or raise the context"
            )
        return Entry(message, tuple(ids), tuple(end for _, end in spans))

    def _take(self, entries: list[Entry], new: Entry | None = None) -> None:
        """Remember these instead, if the template can tell them and there is room for the new."""
        before, self._entries = self._entries, entries
        try:
            self._reframe()
        except WeightsError as error:
            self._entries = before
            self._changed()
            raise StageError(f"the messages cannot be told to this LLM: {error}") from error
        self._user_rows((), whole=False)  # forgets what is too old
        if new is not None and not any(entry is new for entry in self._entries):
            self._entries = before
            self._changed()
            raise StageError(
                f"there is no room for message {new.message.id!r} in [llm] context"
                f" {self._capacity}; shorten it, remove others or raise the context"
            )
        self._changed()

    def _changed(self) -> None:
        """The messages did: no draft stands any longer."""
        self._forget_reply()
        self._reframe()
        self._follow(self._user_rows((), whole=False))

    def _index(self, message_id: str) -> int:
        for i, entry in enumerate(self._entries):
            if entry.message.id == message_id:
                return i
        raise StageError(f"there is no message {message_id!r}; it may have been forgotten")

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

    def _behind_words(self, first: int, end: int) -> Sequence[tuple[int, ...]]:
        """The template's pieces behind some entries."""
        before = sum(not entry.part.wordless for entry in self._entries[:first])
        count = sum(not entry.part.wordless for entry in self._entries[first:end])
        return self._frame.pieces[1 + before : 1 + before + count]

    def _fit(self, open_rows: int, limit: int) -> None:
        """Forget the oldest turns until the rest, with `open_rows` more, fits into `limit`."""
        # Again if the pieces around what stays have become longer.
        while self._entries and (over := len(self._prefix) + open_rows - limit) > 0:
            gone = 0
            for rows, (_, end) in zip(self.rows_of_turns, self._turns(), strict=True):
                gone, over = end, over - rows
                if over <= 0:
                    break
            del self._entries[:gone]
            self._reframe(user=self._user_is_next or not self._entries)

    def _forget_reply(self) -> None:
        if self._reply is not None:
            self._decoded += len(self._reply.tokens)
        self._reply, self._draft = None, None

    def _pieces_of(self, reply: Reply) -> Iterator[str]:
        """What can be said of the reply; its calls are left out."""
        splitter = CallSplitter() if self._tools else None
        given = 0
        while self._reply is reply:
            if given < len(reply.texts):
                given += 1
                text = reply.texts[given - 1]
                if splitter is not None:
                    text = splitter.push(text)
                if text:
                    yield text
            elif reply.reason:
                if splitter is not None and (rest := splitter.finish()):
                    yield rest
                return
            else:
                self._advance(reply)

    def _advance(self, reply: Reply) -> None:
        """Choose one more token, after bringing the last one into the cache."""
        with self._observer.span("decode"):
            session = self._session
            decoded = len(self._held) - len(self._frame.suffix) - len(self._draft or ())
            for token in reply.tokens[decoded:]:
                session.decode(token)
                self._cache.append(token)
                self._rows.append(token)
            full = len(self._rows) + self._behind_reply + 1 > self._capacity
            reply.advance(session.logits, full=full)


def _ends(texts: Sequence[str]) -> tuple[int, ...]:
    total, ends = 0, []
    for text in texts:
        total += len(text)
        ends.append(total)
    return tuple(ends)


def _split(texts: Sequence[str]) -> tuple[str, tuple[ToolCall, ...]]:
    """What is said in a whole reply, and the functions it asks for."""
    splitter = CallSplitter()
    said = "".join(map(splitter.push, texts)) + splitter.finish()
    return said, tuple(splitter.calls)
