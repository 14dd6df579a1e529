"""Drives a dialogue as the pipeline does, in the words of a conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import torch

from textpro_stream.commands import Add, Configure, Remove, Truncate
from textpro_stream.config import LlmOptions
from textpro_stream.contracts import (
    Delta,
    GenerationEnd,
    Message,
    OpenTurn,
    Playout,
    ReplyOptions,
    TextDelta,
    TokenSpan,
    ToneReading,
    Tool,
)
from textpro_stream.errors import StageError
from textpro_stream.llm import Dialogue, LanguageModel
from textpro_stream.llm.dialogue import Snapshot
from textpro_stream.llm.fusion import AlignedText, Row, rows_of
from textpro_stream.llm.history import History
from textpro_stream.llm.tags import tag_of
from textpro_stream.ports import Observer
from textpro_stream.telemetry.trace import Unobserved

PLAIN = ReplyOptions()
ANGRY = ToneReading(0.9, None, None, None, None, {"anger": 0.7, "neutral": 0.3})


def typed(text: str) -> TokenSpan:
    return TokenSpan((), text, 0, 0, 0.0, torch.empty(0, 0))


class Caller:
    """One conversation with a `Dialogue`: it keeps the open turn, and tells all of it each time.

    Args:
        model: shared weights.
        options: the model's own if not given.
        observer: told of the work.
        tools: functions that the model may ask for.
        tone: of all its turns that are over.
    """

    def __init__(
        self,
        model: LanguageModel,
        options: LlmOptions | None = None,
        observer: Observer | None = None,
        tools: Sequence[Tool] = (),
        tone: ToneReading | None = None,
    ) -> None:
        self.tone = tone
        self.model, self.options, self.tools = model, options or model.options, tuple(tools)
        self.dialogue = Dialogue(model, self.options, observer or Unobserved(), tools)
        self.turn = OpenTurn(1)
        self.drawn = False  # something of a reply may have been decoded
        self.deltas: list[Delta] = []  # of the reply drawn last
        self.dialogue.follow(self.turn)

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.dialogue.messages

    @property
    def snapshot(self) -> Snapshot:
        return self.dialogue.snapshot()

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.snapshot.rows

    @property
    def text(self) -> str:
        """What the LLM reads."""
        return self.snapshot.text

    @property
    def end(self) -> GenerationEnd | None:
        """How the reply that was drawn last ended."""
        last = self.deltas[-1] if self.deltas else None
        return last if isinstance(last, GenerationEnd) else None

    @property
    def tokens(self) -> int:
        """That the text drawn last took."""
        return sum(delta.tokens for delta in self.deltas if isinstance(delta, TextDelta))

    def hear(self, spans: Sequence[TokenSpan]) -> None:
        """More words are committed; those of a draft leave the rest of it provisional."""
        turn, committed = self.turn, (*self.turn.spans, *spans)
        drafted, n = (*turn.spans, *turn.tail), len(committed)
        as_drafted = turn.over and _text(drafted[:n]) == _text(committed)
        self._follow(committed, drafted[n:] if as_drafted else (), over=as_drafted)

    def say(self, text: str) -> None:
        gap = " " if self.turn.spans and not text[:1].isspace() else ""
        self.hear([typed(gap + text)])

    def draft(self, tail: Sequence[TokenSpan] = ()) -> None:
        """The turn may be over; without words, what is remembered is to be replied to."""
        self._follow(self.turn.spans, tail, over=True)

    def resume(self) -> None:
        """The speaker goes on."""
        self._follow(self.turn.spans)

    def begin(self) -> None:
        """Nothing was said after all."""
        self._follow(())

    def reply(self, options: ReplyOptions = PLAIN) -> Iterator[str]:
        """The pieces of its text; decoded as they are drawn."""
        if not self.turn.over:
            with suppress(StageError):  # too long for the context: what fits is replied to
                self.draft()
        reading, self.drawn, self.deltas = self.dialogue.reply(self.turn.number, options), True, []

        def pieces() -> Iterator[str]:
            while (deltas := self.dialogue.draw(reading)) is not None:
                for delta in deltas:
                    self.deltas.append(delta)
                    if isinstance(delta, TextDelta):
                        yield delta.text
                    elif isinstance(delta, GenerationEnd):
                        return

        return pieces()

    def ask(self, text: str) -> str:
        """A typed turn as far as its reply."""
        self.say(text)
        self.draft()
        return "".join(self.reply())

    def end_turn(self, heard: int | None = None, *, called: bool = True) -> None:
        """The turn is over, so much of its reply was heard; the next one begins."""
        number = self.turn.number
        self.turn, self.drawn = OpenTurn(number + 1), False  # whatever becomes of it
        self.dialogue.close_turn(Playout(heard, called))

    def add(self, message: Message, after: str | None = None) -> None:
        self.dialogue.edit(Add(message, after))

    def remove(self, message_id: str) -> None:
        self.dialogue.edit(Remove(message_id))

    def truncate(self, message_id: str, characters: int) -> None:
        self.dialogue.edit(Truncate(message_id, characters))

    def configure(self, options: LlmOptions, tools: Sequence[Tool] = ()) -> None:
        self.dialogue.edit(Configure(llm=options, tools=tuple(tools)))
        self.options, self.tools = options, tuple(tools)

    def free(self) -> None:
        self.dialogue.free()

    def _follow(
        self, spans: Sequence[TokenSpan], tail: Sequence[TokenSpan] = (), *, over: bool = False
    ) -> None:
        tone = self.tone if over else None
        self.turn = OpenTurn(self.turn.number, tuple(spans), tuple(tail), over, tone=tone)
        self.dialogue.follow(self.turn)


def check(caller: Caller) -> Snapshot:
    """What the LLM has read is what it would have read if told at once, and read as well."""
    model, snapshot, turn = caller.model, caller.snapshot, caller.turn
    capacity = min(caller.options.context, model.backbone.context)
    history = History(model.chat, caller.options, caller.tools, capacity)
    history.append(snapshot.entries)
    spans = (*turn.spans, *turn.tail) if turn.over else turn.spans
    aligned = AlignedText.of(spans, model.chat.encode)
    words = rows_of(aligned, model.fusion, whole=turn.over)
    history.turn_to(user=bool(words) or not turn.over or not snapshot.entries)
    free = max(0, history.room - len(history.rows))
    says = model.fusion.kind == "tags" and turn.over and bool(words)
    tag = model.chat.encode(tag_of(turn.tone))[0] if says else []
    words = [*words, *tag] if len(words) + len(tag) <= free else words[:free]
    told = [*history.rows, *words, *(history.suffix if turn.over else ())]
    assert list(snapshot.rows[: len(told)]) == told
    decoded = snapshot.rows[len(told) :]
    assert caller.drawn or not decoded
    assert len(snapshot.rows) <= capacity
    assert caller.dialogue.tokens_cached == len(snapshot.rows)
    if told:
        fresh = model.backbone.open(capacity)
        fresh.prefill(model.rows(told))
        for token in decoded:
            assert isinstance(token, int)
            fresh.decode(token)
        torch.testing.assert_close(snapshot.logits, fresh.logits(), atol=3e-4, rtol=1e-3)
    return snapshot


def _text(spans: Sequence[TokenSpan]) -> str:
    return "".join(span.text for span in spans)
