"""One conversation with the LLM: what is remembered, the open turn after it, the reply to it.

    what is remembered | open user's words | suffix | reply

Told how things stand, it works out the list of rows that says so, and the cache follows the list.
Whatever changed (words committed, a draft taken back, a message cut), that is the same move. Knows
nothing of audio, time or tasks: `local.py` calls it in the device's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, assert_never

from torch import Tensor

from textpro_stream.commands import Add, Change, Configure, Remove, Truncate
from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Delta, Message, OpenTurn, Playout, ReplyOptions, Tool
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.llm.cache import Cache
from textpro_stream.llm.chat import Chat
from textpro_stream.llm.fusion import AlignedText, Row, Tone, rows_of
from textpro_stream.llm.generation import Generation, Prompt, Reading, heard, remembered
from textpro_stream.llm.history import Entry, History
from textpro_stream.llm.sampling import Sampler
from textpro_stream.llm.tags import tag_of
from textpro_stream.ports import Observer

if TYPE_CHECKING:
    from textpro_stream.llm.language_model import LanguageModel

TONE_SIGN = "\N{EIGHTH NOTE}"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What the LLM has read, as a value: for tests and for looking into it."""

    entries: tuple[Entry, ...]  # what is remembered
    rows: tuple[Row, ...]  # that, the open turn and what was drawn of the reply
    text: str  # the same, the template's marks in it; a tone of voice is a note sign
    logits: Tensor | None  # of what it would say next, float32 (n_vocabulary,); None: no rows


class Dialogue:
    """One conversation's history and open turn, over a cache. `ports.Dialogue` without waiting.

    It costs nothing before the first `follow`, which reads what stands before the first words.

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
        self._model, self.observer = model, observer
        self._setup = self._usual = (options, tuple(tools))  # in force, and of the conversation
        self._stops = model.chat.stop_ids()
        self._capacity = min(options.context, model.backbone.context)
        self._history = History(model.chat, options, tuple(tools), self._capacity)
        self._cache = Cache(model, self._capacity, observer)
        self._turn = OpenTurn(0)
        self._excess = 0  # rows of the open turn that found no room
        self._told: int | None = None  # the turn of which that was told
        self._prompt: Prompt | None = None  # of a turn that is over, as the cache has it
        self._generation: Generation | None = None  # the reply to it
        self._aside: Dialogue | None = None  # who replies in place of this one
        self._remember = True  # what an aside says
        self._replying = 0  # the turn that the present reply is remembered by

    @property
    def messages(self) -> tuple[Message, ...]:
        """What is remembered, oldest first; the open turn is not among it."""
        return tuple(entry.message for entry in self._history.entries)

    @property
    def tokens_cached(self) -> int:
        """Rows that are held in memory now."""
        aside = self._aside
        return len(self._cache.held) + (aside.tokens_cached if aside is not None else 0)

    def snapshot(self) -> Snapshot:
        """What the LLM has read; built anew where its memory was freed."""
        logits = self._cache.logits() if self._cache.rows else None
        rows = tuple(self._cache.held)
        entries = tuple(self._history.entries)
        return Snapshot(entries, rows, _text_of(rows, self._model.chat), logits)

    def follow(self, turn: OpenTurn) -> None:
        """Hold what is remembered and this turn's words; if it is over, be ready to reply.

        Raises:
            StageError: once for a turn that is longer than the context; what fitted was taken.
        """
        if turn.number != self._turn.number or not turn.over:
            self._as_usual()
        if not turn.over and not turn.text.strip():
            self._told = None
        self._turn = turn
        self._settle()
        if self._excess and self._told != turn.number:
            self._told = turn.number
            raise StageError(
                f"the turn is longer than [llm] context {self._capacity} allows: the LLM does not"
                f" read its last {self._excess} rows; raise the context",
                capacity=self._capacity,
                excess=self._excess,
            )

    def reply(self, turn: int, options: ReplyOptions) -> Reading:
        """Begin to reply to the turn, or to `options.messages`; `draw` gives what is said.

        Options hold until the turn is closed, or another one followed. A reply that stands already
        is read from its beginning and costs only what is new.

        Args:
            turn: number by which the reply will be remembered.
            options: what is different in it.

        Raises:
            ConfigError: the instructions leave no room, a message is longer than the context, or
                the template has no place for it.
        """
        usual, tools = self._usual
        prompt, longest = options.instructions, options.max_tokens
        llm = replace(
            usual,
            system_prompt=usual.system_prompt if prompt is None else prompt,
            max_tokens=usual.max_tokens if longest is None else longest,
        )
        tools = tools if options.tools is None else options.tools
        self._aside, self._replying = None, turn
        if options.aside:
            self._as_usual()
            self._remember = options.remember
            try:
                self._aside = self._beside(options.messages, llm, tools)
            except StageError as error:  # what was asked for cannot be, however often it is tried
                raise ConfigError(str(error)) from None
            return self._aside.reply(turn, ReplyOptions())
        self._configure(llm, tools)
        if self._prompt is None:
            self._turn = replace(self._turn, over=True)
            self._settle()
        assert self._prompt is not None, "a turn that is over has a prompt"
        if self._generation is None:
            self._generation = Generation(
                self._prompt,
                self._model.chat.text_stream(hidden=self._model.fusion.marker),
                # A draft taken again says the same.
                Sampler(llm, llm.seed + self._turn.number, self._model.device),
                self._stops,
                llm.max_tokens,
                calls_tools=bool(tools),
            )
        return Reading(self._generation)

    def pending(self, reading: Reading) -> tuple[Cache, int] | None:
        """The one token that the next `draw` brings into the cache first; None if none or more."""
        if self._aside is not None:
            return self._aside.pending(reading)
        generation = reading.generation
        if generation is not self._generation or not reading.is_level:
            return None
        left = generation.tokens[len(self._cache.rows) - len(generation.prompt.rows) :]
        return (self._cache, left[0]) if len(left) == 1 else None

    def draw(self, reading: Reading) -> Sequence[Delta] | None:
        """Decode at most one more token; what is new in the reply, None if it is void."""
        if self._aside is not None:
            return self._aside.draw(reading)
        generation = reading.generation
        if generation is not self._generation:
            return None
        if reading.is_level:
            self._advance(generation)
        return reading.read()

    def close_turn(self, playout: Playout | None) -> None:
        """Remember the turn as it was heard: `u{n}` and, if there was a reply, `a{n}`.

        Of a reply the token holding the last heard character stays; what follows is forgotten.
        Where the next turn might find no room, the oldest are forgotten until half is free.

        Args:
            playout: None: there was no reply.
        """
        if self._aside is not None:
            self._close_aside(playout)
            return
        turn = self._turn
        said: list[Row] = []
        if turn.text.strip():
            self._turn = replace(turn, over=True)
            text, said = self._words()
        entries = []
        if said:
            entries.append(Entry(Message(f"u{turn.number}", "user", text), tuple(said)))
        if playout is not None:
            entries += self._replied(playout, f"a{self._replying}")
        self._turn = OpenTurn(turn.number)
        self._void()
        self._history.append(entries)
        self._as_usual()
        self._history.make_room()
        self._settle()

    def edit(self, change: Change) -> None:
        """Change what is remembered, or how to reply; a standing reply is void then.

        Raises:
            ConfigError: the system prompt leaves no room.
            StageError: there is no such message, its id is known already, `after` is not, there is
                no room for it where it shall stand, or the template has no place for it. In all
                cases everything stays as it was.
        """
        history = self._history
        beside = len(self._all_words()[1]) + len(self._tag())
        match change:
            case Configure(llm=llm, tools=tools):
                usual = (llm or self._usual[0], self._usual[1] if tools is None else tuple(tools))
                if llm is None and tools is None:  # it is about turns or the voice
                    return
                history.configure(*usual)
                self._setup = self._usual = usual
            case Add(message=message, after=after):
                history.add(message, after, beside=beside)
            case Remove(message_id=message_id):
                history.remove(message_id, beside=beside)
            case Truncate(message_id=message_id, characters=characters):
                if not history.truncate(message_id, characters, beside=beside):
                    return
            case _:
                assert_never(change)
        self._void()
        self._as_usual()
        self._settle()

    def free(self) -> None:
        """Give the cache's memory back. What needs it next builds it anew, whatever had failed."""
        self._cache.free()
        if self._aside is not None:
            self._aside.free()

    def _settle(self) -> None:
        """Bring the cache to where the turn is. A reply to just this stays as it is."""
        _, words = self._words()
        over = self._turn.over
        wanted = [*self._history.rows, *words, *(self._history.suffix if over else ())]
        if over and self._prompt is not None and self._prompt.rows == wanted:
            return
        self._void()
        cached = _common(wanted, self._cache.held)
        self._cache.follow(list(wanted))
        if over:
            self._prompt = Prompt(wanted, cached)

    def _void(self) -> None:
        self._prompt = self._generation = None

    def _words(self) -> tuple[str, list[Row]]:
        """The open turn's words, and as many of their rows as fit once old turns are forgotten.

        Behind them is how they sounded, in rows but not in the text: nobody said it. Without words
        in a turn that is over, what is remembered is to be replied to.
        """
        history = self._history
        text, rows = self._all_words()
        tag = self._tag() if rows else []
        history.turn_to(user=bool(rows) or not self._turn.over or not history.entries)
        history.fit(len(rows) + len(tag), history.room)
        free = history.room - len(history.rows)
        # The beginning of a long turn says what it is about: its end is cut.
        self._excess = min(len(rows), max(0, len(rows) - free))
        rows = rows[: len(rows) - self._excess]
        return text, [*rows, *tag] if len(rows) + len(tag) <= free else rows

    def _all_words(self) -> tuple[str, list[Row]]:
        """Words whose recognition may still change are read once the turn may be over."""
        turn = self._turn
        spans = (*turn.spans, *turn.tail) if turn.over else turn.spans
        aligned = AlignedText.of(spans, self._model.chat.encode)
        return aligned.text, rows_of(aligned, self._model.fusion, whole=turn.over)

    def _tag(self) -> list[int]:
        """Of a turn that is over: what its tone is cannot be known before."""
        if self._model.fusion.kind != "tags" or not self._turn.over:
            return []
        return self._model.chat.encode(tag_of(self._turn.tone))[0]

    def _configure(self, options: LlmOptions, tools: tuple[Tool, ...]) -> None:
        if self._setup != (options, tools):
            self._history.configure(options, tools)
            self._setup = (options, tools)
            self._void()

    def _as_usual(self) -> None:
        """What held for one reply alone holds no longer."""
        self._aside = None
        self._configure(*self._usual)

    def _beside(
        self, messages: Sequence[Message] | None, options: LlmOptions, tools: tuple[Tool, ...]
    ) -> Dialogue:
        """Another dialogue, over the same weights, that replies to these messages alone.

        Args:
            messages: None: those that are remembered.
            options: of it.
            tools: of it.
        """
        aside = Dialogue(self._model, options, self.observer, tools)
        entry = aside._history.entry
        entries = list(self._history.entries) if messages is None else list(map(entry, messages))
        aside._history.take(entries)
        aside.follow(OpenTurn(self._replying, over=True))
        return aside

    def _close_aside(self, playout: Playout | None) -> None:
        """An aside is over; the open turn stands as it stood."""
        said = self._replied(playout, f"a{self._replying}") if playout is not None else []
        self._aside = None
        if said:
            self._void()
            self._history.append(said)
            self._settle()

    def _replied(self, playout: Playout, message_id: str) -> list[Entry]:
        """What is remembered of the reply."""
        encoded = self._history.entry
        if self._aside is None:
            generation = self._generation
            return (
                [] if generation is None else [remembered(generation, playout, message_id, encoded)]
            )
        generation = self._aside._generation
        if generation is None or not self._remember:
            return []
        message = heard(generation, playout, message_id)
        return [encoded(message)] if message.text or message.calls else []

    def _advance(self, generation: Generation) -> None:
        """Choose one more token, after bringing the last one into the cache."""
        with self.observer.span("decode"):
            decoded = len(self._cache.rows) - len(generation.prompt.rows)
            for token in generation.tokens[decoded:]:
                self._cache.decode(token)
            full = len(self._cache.rows) + self._history.after_reply + 1 > self._capacity
            generation.advance(self._cache.logits, full=full)


def _text_of(rows: Sequence[Row], chat: Chat) -> str:
    runs = groupby(rows, key=lambda row: isinstance(row, Tone))
    return "".join(
        TONE_SIGN * len(list(run))
        if is_tone
        else chat.decode([row for row in run if isinstance(row, int)])
        for is_tone, run in runs
    )


def _common(wanted: Sequence[Row], held: Sequence[Row]) -> int:
    """Rows of the shared beginning."""
    for n, (one, other) in enumerate(zip(wanted, held, strict=False)):
        if one != other:
            return n
    return min(len(wanted), len(held))
