"""What the pipeline asks of the stages it introduces to each other.

The real ones are in `whisper/`, `turn/`, `llm/` and `speech/`; tests put scripted neighbours
behind the same doors, and another engine fits behind them as well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Protocol

from textpro_stream.contracts import (
    AudioChunk,
    Heard,
    SpokenChunk,
    TokenSpan,
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

    def press(self, at: int) -> Sequence[TurnSignal]:
        """Push-to-talk: the key went down."""
        ...

    def release(self, at: int) -> Sequence[TurnSignal]:
        """Push-to-talk: the key went up."""
        ...

    def finish(self) -> Sequence[TurnSignal]:
        """The audio ended; so does an open turn."""
        ...


class Dialoguing(Protocol):
    """The LLM's memory of one conversation."""

    @property
    def reason(self) -> str:
        """Why the standing reply ended: "stop" or "length"."""
        ...

    @property
    def tokens_decoded(self) -> int:
        """Reply tokens decoded so far, discarded drafts included."""
        ...

    def begin(self) -> None:
        """Prefill what stands before the first words; once."""
        ...

    def hear(self, spans: Sequence[TokenSpan]) -> None:
        """Words were committed: remember them. A draft of just these words stays."""
        ...

    def say(self, text: str) -> None:
        """The same for typed text."""
        ...

    def draft(self, tail: Sequence[TokenSpan] = ()) -> None:
        """Were the turn to end with these words, be ready."""
        ...

    def resume(self) -> None:
        """It did not end: forget the draft."""
        ...

    def reply(self) -> Iterator[str]:
        """Decode the reply to the draft, piece by piece, whole characters each."""
        ...

    def end_turn(self, heard_chars: int | None = None) -> None:
        """The reply is over; of an interrupted one, remember the beginning that was heard."""
        ...

    def needs_room(self) -> bool:
        """The context is nearly full."""
        ...

    def make_room(self) -> None:
        """Drop the oldest turns."""
        ...


class Speaking(Protocol):
    """A voice."""

    def speak(self, text: str, *, start: int, text_start: int) -> AsyncIterator[SpokenChunk]:
        """Say a clause. An async generator: closing it stops the voice.

        Args:
            text: of the clause.
            start: samples of this reply that were spoken before it.
            text_start: characters of this reply before it.
        """
        ...
