"""What the pipeline asks of the stages it introduces to each other.

The real ones are in `whisper/`, `turn/`, `llm/` and `speech/`; tests put scripted neighbours
behind the same doors, and another engine fits behind them as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol, Self

from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.contracts import (
    AudioChunk,
    Heard,
    Message,
    SpokenChunk,
    TokenSpan,
    Tool,
    ToolCall,
    Transcript,
    TurnSignal,
)


class RecognizerWork(Protocol):
    """Counters of a recognizer, for `Finished.work`."""

    positions_final: int
    positions_provisional: int
    positions_heard: int
    decoder_passes: int
    tokens_committed: int


class Recognizing(Protocol):
    """The recognizer of one turn."""

    @property
    def work(self) -> RecognizerWork:
        """What it has done so far."""
        ...

    def push(self, item: AudioChunk, /) -> Sequence[Transcript]:
        """Take audio; give what it changed."""
        ...

    def preview(self) -> Sequence[TokenSpan]:
        """What `finish` would commit, were the audio to end here."""
        ...

    def finish(self) -> Sequence[Transcript]:
        """Commit the rest; free right after `preview`."""
        ...


class Endpointing(Protocol):
    """Who is speaking, and is the turn over?"""

    @property
    def voice(self) -> float:
        """Speech probability of the last frame."""
        ...

    def push(self, heard: Heard, /) -> Sequence[TurnSignal]:
        """Take one frame; give what it decided."""
        ...

    def evidence(self, text: str, p_end: float | None = None) -> None:
        """What the turn's words say about the pause that just began."""
        ...

    def configure(self, options: TurnOptions) -> None:
        """Other limits from here on."""
        ...

    def dismiss(self) -> None:
        """Forget the open turn."""
        ...

    def press(self, at: int) -> Sequence[TurnSignal]:
        """Push-to-talk: the key went down."""
        ...

    def release(self, at: int) -> Sequence[TurnSignal]:
        """Push-to-talk: the key went up."""
        ...

    def finish(self) -> Sequence[TurnSignal]:
        """The audio ended; so does an open turn."""
        ...


class Replying(Protocol):
    """Something that gives a reply, piece by piece."""

    @property
    def reason(self) -> str:
        """Why the reply ended: "stop" or "length"."""
        ...

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Functions that the ended reply asks for."""
        ...

    def reply(self) -> Iterator[str]:
        """The reply, piece by piece, whole characters each."""
        ...


class Dialoguing(Replying, Protocol):
    """The LLM's memory of one conversation."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """What is remembered, the open turn left out."""
        ...

    @property
    def tokens_decoded(self) -> int:
        """Reply tokens decoded so far, discarded drafts included."""
        ...

    @property
    def rows_cached(self) -> int:
        """Rows that the cache holds now."""
        ...

    def begin(self) -> None:
        """Forget the open turn; first of all, prefill what stands before the first words."""
        ...

    def configure(self, options: LlmOptions, tools: Sequence[Tool]) -> None:
        """Another system prompt, sampling or tools."""
        ...

    def hear(self, spans: Sequence[TokenSpan]) -> None:
        """Words were committed: remember them. A draft of just these words stays."""
        ...

    def say(self, text: str) -> None:
        """The same for typed text."""
        ...

    def draft(self, tail: Sequence[TokenSpan] = ()) -> None:
        """Were the turn to end with these words, be ready. With no words: answer the memory."""
        ...

    def resume(self) -> None:
        """It did not end: forget the draft."""
        ...

    def end_turn(
        self,
        heard_characters: int | None = None,
        *,
        called: bool = False,
        user: str = "",
        reply: str = "",
    ) -> None:
        """The turn is over and leaves two messages with these ids, or one without a reply.

        Args:
            heard_characters: of an interrupted reply, how much is to be remembered.
            called: its calls were told before it was interrupted, and are remembered too.
            user: id of what the user said.
            reply: id of the reply.
        """
        ...

    def add(self, message: Message, after: str | None = None) -> None:
        """Remember a message; after another's id, "" for the beginning, None for the end."""
        ...

    def remove(self, message_id: str) -> None:
        """Forget a message."""
        ...

    def truncate(self, message_id: str, characters: int) -> None:
        """Remember only the beginning of a reply."""
        ...

    def aside(
        self, messages: Sequence[Message], options: LlmOptions, tools: Sequence[Tool]
    ) -> Self:
        """A memory of its own with these messages, sharing the weights."""
        ...

    def free(self) -> None:
        """Give the cache's memory back; it is rebuilt when it is needed. Fit after any failure."""
        ...

    def needs_room(self) -> bool:
        """The context is nearly full."""
        ...

    def make_room(self) -> None:
        """Drop the oldest turns."""
        ...


class Speaking(Protocol):
    """A voice."""

    def speak(
        self, text: str, *, start: int, text_start: int, speed: float = 1.0
    ) -> AsyncIterator[SpokenChunk]:
        """Say a clause. An async generator: closing it stops the voice.

        Args:
            text: of the clause.
            start: samples of this reply that were spoken before it.
            text_start: characters of this reply before it.
            speed: 1 is the voice's own pace, 2 twice as fast.
        """
        ...
