"""One conversation's memory: turns in a KV cache, and the reply that is drafted behind them.

What the cache holds is kept as a list of rows, so every change is the same move: compare the list
wanted with the list held, crop to the common beginning, append the rest. Committed words, drafts,
resumed turns, what was heard of a reply: all are lists.

    opening | user rows | suffix | reply | between | user rows | suffix | reply | ...

Knows nothing of audio, time or tasks: the pipeline calls it on the device's thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Observer, TokenSpan
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.llm.fusion import Row, Said, rows_of
from textpro_stream.llm.reply import Reason, Reply
from textpro_stream.llm.sampling import Sampler

if TYPE_CHECKING:
    from textpro_stream.llm.model import LanguageModel


class Dialogue:
    """One conversation's memory over a session.

    Opening it prefills what stands before the first user's words, so nobody waits for that later.
    Per turn: any number of `hear`, `say`, `draft` and `resume`; then `draft`, `reply`, `end_turn`.
    `make_room` in idle time.

    Args:
        model: shared weights.
        options: sampling, system prompt, context.
        observer: told of "prefill" and "decode".

    Raises:
        ConfigError: the system prompt leaves no room in the context.
    """

    def __init__(self, model: LanguageModel, options: LlmOptions, observer: Observer) -> None:
        self._model = model
        self._options = options
        self._observer = observer
        self._pieces = model.chat.pieces(options.system_prompt)
        self._stops = model.chat.stop_ids(self._pieces)
        self._capacity = min(options.context, model.backbone.context)
        # Rows of a turn that are not the user's: the reply, and the marks around it.
        marks = len(self._pieces.suffix) + len(self._pieces.between)
        self._behind = marks + min(options.max_tokens, self._capacity // 4)
        if len(self._pieces.opening) + self._behind >= self._capacity:
            raise ConfigError(
                f"[llm] context {self._capacity} is too small for a system prompt of"
                f" {len(self._pieces.opening)} rows and a reply; raise it or shorten the prompt"
            )
        self._session = model.backbone.open(self._capacity)
        self._turns: list[list[Row]] = []  # finished ones, as they stand in the cache
        self._spans: list[TokenSpan] = []  # committed in the open turn
        self._held: list[Row] = []  # the open turn's rows in the cache
        self._draft: list[Row] | None = None  # user rows of the standing draft
        self._reply: Reply | None = None  # of the standing draft
        self._excess = 0  # rows of the open turn that found no room
        self._cut = False  # and that this was told
        self._count = 0  # turns ever finished
        self._decoded = 0  # reply tokens of replies that are over
        self._append(self._pieces.opening)
        self._base = self._session.length  # rows in front of the open turn

    @property
    def length(self) -> int:
        """Rows in the cache."""
        return self._session.length

    @property
    def rows_of_turns(self) -> tuple[int, ...]:
        """Rows of each finished turn that is still remembered, oldest first."""
        return tuple(len(turn) for turn in self._turns)

    @property
    def tokens_decoded(self) -> int:
        """Reply tokens decoded in this conversation, discarded drafts included."""
        return self._decoded + (len(self._reply.tokens) if self._reply else 0)

    @property
    def reason(self) -> Reason:
        """Why the standing reply ended; "" while it has not."""
        return self._reply.reason if self._reply else ""

    def begin(self) -> None:
        """Begin the turn anew, as if nothing had been said in it: a fresh one needs no call."""
        self._forget_reply()
        self._follow([])
        self._spans, self._excess, self._cut = [], 0, False

    def hear(self, spans: Sequence[TokenSpan]) -> None:
        """Append committed whole words to the open turn.

        A standing draft whose words these are stays as it is, reply and all; any other is dropped.

        Raises:
            StageError: once in a turn that is longer than the context; what fitted was taken.
        """
        if not spans:
            return
        self._spans += spans
        rows = self._user_rows((), whole=False)
        if self._draft is None or self._draft[: len(rows)] != rows:
            self._forget_reply()
            self._follow(rows)
        self._tell_of_cut()

    def say(self, text: str) -> None:
        """Append typed text to the open turn, as `hear` appends spoken words."""
        gap = " " if self._spans and not text[:1].isspace() else ""
        self.hear([TokenSpan((), gap + text, 0, 0, 0.0, torch.empty(0, 0))])

    def draft(self, tail: Sequence[TokenSpan] = ()) -> None:
        """Append what is still provisional and the assistant's header, as if the turn were over.

        If that is the draft that stands already, its reply goes on where it was.

        Args:
            tail: the open hypothesis, behind the committed words.

        Raises:
            StageError: as `hear`; the draft stands.
        """
        rows = self._user_rows(tail, whole=True)
        if self._draft != rows:
            self._forget_reply()
            self._follow([*rows, *self._pieces.suffix])
            self._draft = rows
        self._tell_of_cut()

    def resume(self) -> None:
        """Drop the draft: the user went on."""
        self._forget_reply()
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

    def end_turn(self, heard_characters: int | None = None) -> None:
        """Close the turn as it was heard, and open the next.

        Args:
            heard_characters: characters of the reply that were heard; the token holding the last of
                them stays, what follows is forgotten. None: all that was drawn.

        A turn in which nothing was said leaves everything as it was.
        """
        said = self._draft if self._draft is not None else self._user_rows((), whole=True)
        reply = self._reply.heard(heard_characters) if self._reply is not None else []
        if said:
            turn = [*said, *self._pieces.suffix, *reply, *self._pieces.between]
            self._follow(turn)
            self._turns.append(turn)
            self._count += 1
            self._base, self._held = self._session.length, []
        self.begin()

    def end_probability(self) -> float:
        """Probability that the user's turn ends behind the words in the cache.

        The template's own end mark against every other next token. With `interleave`, words that
        wait for their group count only in a draft; with `global`, all words do.
        """
        n = len(self._draft if self._draft is not None else self._held)
        if n == 0:
            return 0.0
        logits = self._session.logits_at(self._base + n)
        return float(logits.softmax(dim=-1)[self._pieces.suffix[0]])

    def needs_room(self) -> bool:
        """Whether another turn of usual length might not fit."""
        usual = min(self._behind + 128, self._capacity // 2)
        return bool(self._turns) and self._session.length + usual > self._capacity

    def make_room(self) -> None:
        """Forget the oldest turns, whole, until half the context is free; rebuild the cache.

        Takes as long as prefilling what stays: call it while nobody waits.
        """
        if self.needs_room():
            self._drop_turns(len(self._held), self._capacity // 2)

    def _user_rows(self, tail: Sequence[TokenSpan], *, whole: bool) -> list[Row]:
        """The open turn's words as rows, as many as fit once old turns are forgotten."""
        said = Said.of([*self._spans, *tail], self._model.chat.encode)
        rows = rows_of(said, self._model.fusion, whole=whole)
        room = self._capacity - self._behind
        if self._base + len(rows) > room:
            self._drop_turns(len(rows), room)
        # The beginning of a long turn says what it is about: its end is cut.
        self._excess = max(0, self._base + len(rows) - room)
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

    def _follow(self, rows: list[Row]) -> None:
        """Bring the cache behind `_base` to `rows`: crop to the common beginning, append."""
        common = 0
        for wanted, held in zip(rows, self._held, strict=False):
            if wanted != held:
                break
            common += 1
        self._session.crop(self._base + common)
        del self._held[common:]
        self._append(rows[common:])
        self._held = list(rows)

    def _append(self, rows: Sequence[Row]) -> None:
        if rows:
            with self._observer.span("prefill"):
                self._session.prefill(self._model.rows(rows))

    def _drop_turns(self, open_rows: int, limit: int) -> None:
        """Forget the oldest turns until the rest, with `open_rows` more, fits into `limit`."""
        kept, start = list(self._turns), len(self._pieces.opening)
        while kept and start + sum(map(len, kept)) + open_rows > limit:
            kept.pop(0)
        if len(kept) == len(self._turns):
            return
        held, self._turns = self._held, kept
        self._session.crop(start)
        self._append([row for turn in kept for row in turn])
        self._base, self._held = self._session.length, []
        self._follow(held)

    def _forget_reply(self) -> None:
        if self._reply is not None:
            self._decoded += len(self._reply.tokens)
        self._reply, self._draft = None, None

    def _pieces_of(self, reply: Reply) -> Iterator[str]:
        given = 0
        while self._reply is reply:
            if given < len(reply.texts):
                given += 1
                if text := reply.texts[given - 1]:
                    yield text
            elif reply.reason:
                return
            else:
                self._advance(reply)

    def _advance(self, reply: Reply) -> None:
        """Choose one more token, after bringing the last one into the cache."""
        with self._observer.span("decode"):
            rows = len(self._held) - len(self._pieces.suffix) - len(self._draft or ())
            for token in reply.tokens[rows:]:
                self._session.decode(token)
                self._held.append(token)
            full = self._session.length + len(self._pieces.between) + 1 > self._capacity
            reply.advance(self._session.logits, full=full)
