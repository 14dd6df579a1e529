"""One conversation with the LLM: the open turn, what is remembered before it, the reply behind it.

    what is remembered | open user's words | suffix | reply

Committed words, drafts, resumed turns, what was heard of a reply, messages added, removed or cut:
all are lists of rows, which the cache follows. Knows nothing of audio, time or tasks: the pipeline
calls it on the device's thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Message, Observer, TokenSpan, Tool, ToolCall
from textpro_stream.errors import StageError
from textpro_stream.llm.cache import Cache
from textpro_stream.llm.fusion import Row, Said, rows_of
from textpro_stream.llm.memory import Entry, Memory
from textpro_stream.llm.reply import Reason, Reply
from textpro_stream.llm.sampling import Sampler
from textpro_stream.llm.tools import CallSplitter

if TYPE_CHECKING:
    from textpro_stream.llm.language_model import LanguageModel


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
        self._options, self._tools = options, tuple(tools)
        self._stops = model.chat.stop_ids()
        self._capacity = min(options.context, model.backbone.context)
        self._memory = Memory(model.chat, options, self._tools, self._capacity)
        self._cache = Cache(model, self._capacity, observer)
        self._spans: list[TokenSpan] = []  # committed in the open turn
        self._draft: list[Row] | None = None  # user rows of the standing draft
        self._text = ""  # the open turn's words as its rows have them, those of the draft included
        self._reply: Reply | None = None  # of the standing draft
        self._excess = 0  # rows of the open turn that found no room
        self._cut = False  # and that this was told
        self._count = 0  # turns ever finished
        self._decoded = 0  # reply tokens of replies that are over
        self._follow([])

    def configure(self, options: LlmOptions, tools: Sequence[Tool]) -> None:
        """Go on with another system prompt, sampling, length or tools. The context stays.

        Raises:
            ConfigError: the system prompt leaves no room; everything stays as it was.
        """
        self._memory.configure(options, tuple(tools))
        self._options, self._tools = options, tuple(tools)
        self._changed()

    @property
    def messages(self) -> tuple[Message, ...]:
        """What is remembered, oldest first; the open turn is not among it."""
        return tuple(entry.message for entry in self._memory.entries)

    def add(self, message: Message, after: str | None = None) -> None:
        """Remember a message.

        Args:
            message: its words are only words, whatever marks are in them.
            after: id of the one before it; "" puts it first, None last. One that had to be
                forgotten stands before all that is left.

        Raises:
            StageError: its id is known already, `after` is not, the context has no room for it
                where it shall stand, or the template no place; the messages stay as they were.
        """
        self._memory.add(message, after, beside=self._beside())
        self._changed()

    def remove(self, message_id: str) -> None:
        """Forget a message.

        Raises:
            StageError: there is none with this id.
        """
        self._memory.remove(message_id, beside=self._beside())
        self._changed()

    def truncate(self, message_id: str, characters: int) -> None:
        """Of a reply, remember only the beginning, and the token that holds its last character.

        Raises:
            StageError: there is no such message, or it is no reply.
        """
        if self._memory.truncate(message_id, characters, beside=self._beside()):
            self._changed()

    def aside(
        self, messages: Sequence[Message], options: LlmOptions, tools: Sequence[Tool]
    ) -> Dialogue:
        """Another memory with just these messages, over the same weights.

        Raises:
            ConfigError: the system prompt leaves no room.
            StageError: a message is longer than the context, or the template has no place for it.
        """
        side = Dialogue(self._model, options, self._observer, tools)
        side._memory.take([side._memory.entry(message) for message in messages])
        side._changed()
        return side

    def free(self) -> None:
        """Give the cache's memory back. What needs it next builds it anew, whatever had failed."""
        self._cache.free()

    @property
    def rows_cached(self) -> int:
        """Rows that the cache holds now; none after `free`."""
        return len(self._cache.held)

    @property
    def length(self) -> int:
        """Rows that the cache holds, or will once it is needed."""
        return len(self._cache.rows)

    @property
    def rows_of_turns(self) -> tuple[int, ...]:
        """Rows of each turn that is still remembered, marks included, oldest first."""
        return self._memory.rows_of_turns

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
        self._open_for(user=True)
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
            self._open_for(user=True)
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
            self._open_for(user=bool(rows) or not self._memory.entries)
            self._follow([*rows, *self._memory.suffix])
            self._draft = rows
        self._tell_of_cut()

    def resume(self) -> None:
        """Drop the draft: the user went on."""
        self._forget_reply()
        self._open_for(user=True)
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
        self,
        heard_characters: int | None = None,
        *,
        called: bool = False,
        user: str = "",
        reply: str = "",
    ) -> None:
        """Close the turn as it was heard, and open the next.

        Args:
            heard_characters: characters of the reply that were heard; the token holding the last of
                them stays, what follows is forgotten. None: all that was drawn.
            called: what it asks for has been asked for, and stays, however little was heard.
            user: id of the message that the user's words become.
            reply: the same for the reply; there is none if none was drawn.

        A turn in which nothing was said leaves everything as it was, but for a reply.
        """
        said = self._draft if self._draft is not None else self._user_rows((), whole=True)
        self._count += bool(said) or self._reply is not None
        entries: list[Entry] = []
        if said:
            message = Message(user or f"user {self._count}", "user", self._text)
            entries.append(Entry(message, tuple(said)))
        if self._reply is not None:
            entries.append(self._entry_of(self._reply, heard_characters, called, reply))
        self._forget_reply()
        self._memory.append(entries)
        self._begin()

    def needs_room(self) -> bool:
        """Whether another turn of usual length might not fit."""
        memory = self._memory
        return bool(memory.entries) and self.length + memory.usual_turn > self._capacity

    def make_room(self) -> None:
        """Forget the oldest turns, whole, until half the context is free; rebuild the cache.

        Takes as long as prefilling what stays: call it while nobody waits. Does nothing while what
        is remembered is being answered.
        """
        if self._memory.user_is_next and self.needs_room():
            held = self._held
            self._memory.fit(len(held), self._capacity // 2)
            self._follow(held)

    def _changed(self) -> None:
        """What is remembered did: no draft stands any longer."""
        self._forget_reply()
        self._follow(self._user_rows((), whole=False))

    def _beside(self) -> int:
        """Rows of the open turn's words."""
        return len(self._rows_said(self._spans, whole=False)[1])

    def _entry_of(
        self, reply: Reply, heard_characters: int | None, called: bool, message_id: str
    ) -> Entry:
        """What is remembered of a reply."""
        calls = self.calls if called or heard_characters is None else ()
        message_id = message_id or f"reply {self._count}"
        tokens = reply.heard(heard_characters)
        texts = reply.texts[: len(tokens)]
        if self._tools and heard_characters is not None:
            heard = _split(reply.texts)[0][: max(0, heard_characters)]
            if calls or not "".join(texts).startswith(heard):  # calls stand among the tokens
                return self._memory.entry(Message(message_id, "assistant", heard, calls))
        text = _split(texts)[0] if calls else "".join(texts)
        message = Message(message_id, "assistant", text, calls)
        return Entry(message, tuple(tokens), _ends(texts), made=True)

    def _rows_said(self, spans: Sequence[TokenSpan], *, whole: bool) -> tuple[str, list[Row]]:
        said = Said.of(spans, self._model.chat.encode)
        return said.text, rows_of(said, self._model.fusion, whole=whole)

    def _user_rows(self, tail: Sequence[TokenSpan], *, whole: bool) -> list[Row]:
        """The open turn's words as rows, as many as fit once old turns are forgotten."""
        self._text, rows = self._rows_said([*self._spans, *tail], whole=whole)
        memory = self._memory
        remembered = len(memory.entries)
        memory.fit(len(rows), memory.room)
        if len(memory.entries) < remembered:
            self._forget_reply()  # it was drafted behind what is forgotten
        # The beginning of a long turn says what it is about: its end is cut.
        self._excess = max(0, len(memory.rows) + len(rows) - memory.room)
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
        return list(self._cache.rows[len(self._memory.rows) :])

    def _follow(self, rows: Sequence[Row]) -> None:
        """Bring the cache to what is remembered, and these rows behind it."""
        self._cache.follow([*self._memory.rows, *rows])

    def _open_for(self, *, user: bool) -> None:
        if user != self._memory.user_is_next:
            self._memory.open(user=user)

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
            decoded = len(self._held) - len(self._memory.suffix) - len(self._draft or ())
            for token in reply.tokens[decoded:]:
                self._cache.decode(token)
            full = self.length + self._memory.behind_reply + 1 > self._capacity
            reply.advance(self._cache.logits, full=full)


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
