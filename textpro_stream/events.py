"""What a conversation says, as one union.

`match` an event and close with `assert_never`: a new event then shows every place that has to
care. A barge-in drops `ReplyText` and `ReplyAudio` that were not delivered yet; all others always
arrive. `turn` counts from 1; `at` is the audio clock: samples of input consumed when it was
decided.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from textpro_stream.contracts import (
    EndpointReason,
    GenerationEndReason,
    ProsodyWindow,
    SpokenChunk,
    TokenSpan,
    ToneReading,
    ToolCall,
    text_of,
)
from textpro_stream.errors import ErrorCode, TextproError

TurnEndReason = Literal[
    EndpointReason,
    "typed",
    "no_words",  # a sound held none
    "echo",  # it repeats our own reply
    "unclear",  # its words are too unsure to be answered
    "failed",  # the recognizer did
]
ReplyEndReason = Literal[GenerationEndReason, "barge_in", "cancelled", "failed"]
FailureCode = Literal[
    "asr",  # the recognizer: the open turn ends with what it had
    "llm",  # a reply, or what was to be remembered
    "voice",  # the reply goes on as text
    ErrorCode,  # the error that ended the conversation
]


def failure_code(error: TextproError) -> FailureCode:
    """The code under which a failure is told."""
    codes = get_args(ErrorCode)
    return cast("FailureCode", error.code) if error.code in codes else "error"


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody began to speak."""

    turn: int
    at: int
    speech: int  # samples; where the speech itself began


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The voice fell silent; the turn may still go on."""

    turn: int
    at: int
    speech: int  # samples; where the speech itself ended


@dataclass(frozen=True, slots=True)
class HypothesisChanged:
    """The whole open tail, as text. It replaces the last one."""

    turn: int
    at: int
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class WordsCommitted:
    """Words that can no longer change. Texts of a turn, joined as they are, give its transcript."""

    turn: int
    at: int
    spans: tuple[TokenSpan, ...]

    @property
    def text(self) -> str:
        """The new text; starts with a space where a word begins."""
        return text_of(self.spans)


@dataclass(frozen=True, slots=True, eq=False)
class TranscriptRevised:
    """The turn's words, where hearing it as a whole changed some that were committed.

    The last word about them: it comes once, right before `TurnEnded`, whose transcript it is. Only
    with `whisper.revise`.
    """

    turn: int
    at: int
    spans: tuple[TokenSpan, ...]  # all of the turn

    @property
    def text(self) -> str:
        """The whole transcript."""
        return text_of(self.spans)


@dataclass(frozen=True, slots=True, eq=False)
class ProsodyUpdated:
    """A finished prosody window."""

    turn: int
    at: int
    window: ProsodyWindow


@dataclass(frozen=True, slots=True)
class TurnTone:
    """How the turn as a whole was said. Right before `TurnEnded`; not of turns without words."""

    turn: int
    at: int
    tone: ToneReading


@dataclass(frozen=True, slots=True)
class TurnEager:
    """The turn may soon be over: the reply is being drafted, in case it is."""

    turn: int
    at: int


@dataclass(frozen=True, slots=True)
class TurnResumed:
    """The speaker went on: the draft is dropped."""

    turn: int
    at: int


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The endpoint."""

    turn: int
    at: int
    transcript: str
    reason: TurnEndReason
    replies: bool = True  # a reply to it follows by itself


@dataclass(frozen=True, slots=True)
class ReplyStarted:
    """The first reply token was released."""

    turn: int
    at: int


@dataclass(frozen=True, slots=True)
class ReplyText:
    """A piece of the reply's text. Dropped by a barge-in."""

    turn: int
    at: int
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class ReplyAudio:
    """A piece of the spoken reply. Dropped by a barge-in."""

    turn: int
    at: int
    chunk: SpokenChunk


@dataclass(frozen=True, slots=True)
class ReplyDucked:
    """Somebody may be speaking over the reply: play it quietly until it is clear who goes on."""

    turn: int
    at: int
    ducked: bool  # False: play on as before


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The reply asks for a function to be called; it holds no more text."""

    turn: int
    at: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class ReplyGiven:
    """All of the reply has been given out; its audio may still be playing. Then `ReplyEnded`.

    A reply that was stopped or failed before comes without this event.
    """

    turn: int
    at: int
    text: str
    reason: GenerationEndReason
    marks: dict[str, float] = field(default_factory=dict)  # as of `TurnLatency`


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """The reply is over."""

    turn: int
    at: int
    text: str  # the whole text; after a barge-in, what was heard of it
    reason: ReplyEndReason


@dataclass(frozen=True, slots=True)
class TurnLatency:
    """Where a turn's time went: marks in seconds, against the endpoint decision.

    Names and definitions are those of docs/latency.md.
    """

    turn: int
    at: int
    marks: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong; the conversation goes on where it can."""

    turn: int
    at: int
    code: FailureCode
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The stream ended. Always the last event."""

    turn: int
    at: int
    turns: int
    words: int
    cpu_s: float
    rtf: dict[str, float]  # encoder, decoder, llm, speech: busy seconds per audio second
    work: dict[
        str, float
    ]  # frames_final_per_frame, frames_provisional_per_frame, decoder_steps_per_token


Event = (
    SpeechStarted
    | SpeechStopped
    | HypothesisChanged
    | WordsCommitted
    | TranscriptRevised
    | ProsodyUpdated
    | TurnTone
    | TurnEager
    | TurnResumed
    | TurnEnded
    | ReplyStarted
    | ReplyText
    | ReplyAudio
    | ReplyDucked
    | ToolCalled
    | ReplyGiven
    | ReplyEnded
    | TurnLatency
    | Failed
    | Finished
)
