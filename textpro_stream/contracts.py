"""The values and doors that every stage shares.

Positions are sample indices at 16 kHz since the stream began: integers add up exactly, and
seconds appear only on screens and on the wire. Stages return values; only `pipeline/` speaks
in events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_RATE = 16_000  # Hz; sources resample at the edge
MEL_HOP = 160  # samples; one mel frame = 10 ms
POSITION_HOP = 320  # samples; one encoder position = 20 ms
FRAME = 320  # samples; the grid on which a conversation moves, so cutting audio changes nothing

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


def seconds(samples: int) -> float:
    """Samples at 16 kHz as seconds, for screens and the wire."""
    return samples / SAMPLE_RATE


def samples_of_ms(milliseconds: float) -> int:
    """Milliseconds as a whole number of samples at 16 kHz."""
    return round(milliseconds * SAMPLE_RATE / 1000)


@dataclass(frozen=True, slots=True, eq=False)  # arrays do not compare to one bool
class AudioChunk:
    """A run of mono audio at 16 kHz."""

    samples: NDArray[np.float32]  # (n,), full scale [-1, 1]
    start: int  # sample index

    @property
    def end(self) -> int:
        """Sample index behind the last sample."""
        return self.start + len(self.samples)


@dataclass(frozen=True, slots=True, eq=False)
class TokenSpan:
    """The smallest run of tokens that spells whole characters (nearly always one token)."""

    ids: tuple[int, ...]  # Whisper vocabulary
    text: str  # may start with a space; join without separators
    start: int  # samples
    end: int  # samples, exclusive
    logprob: float  # mean per token, natural log, <= 0
    states: Tensor  # (n_ids, d_prosody) float32; middle decoder layer, step that made each token


@dataclass(frozen=True, slots=True, eq=False)
class Transcript:
    """What one step of the recognizer changed."""

    committed: tuple[TokenSpan, ...] = ()  # new since the last one; never revised
    hypothesis: tuple[TokenSpan, ...] = ()  # the whole open tail; replaces the last one


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """One frame of audio and the words that were committed with it."""

    chunk: AudioChunk
    committed: tuple[TokenSpan, ...] = ()
    ends_turn: bool = False  # the turn's last words are in; what comes next belongs to another


@dataclass(frozen=True, slots=True, eq=False)
class ProsodyWindow:
    """How a stretch of speech was said. Frozen once emitted."""

    start: int  # samples
    end: int  # samples, exclusive; consecutive windows overlap
    n_tokens: int  # token spans pooled; never 0
    embedding: NDArray[np.float32]  # (d_prosody,) mean of the token states in the window
    f0_hz: float | None  # median over voiced frames; None if unvoiced
    f0_semitones: float | None  # against the speaker's running median; None if unvoiced
    energy_dbfs: float  # RMS of the frames in the window; 0 is full scale
    energy_z: float  # against the speaker's running mean, in running standard deviations
    rate_tps: float  # tokens per second of the stretch they cover


TurnSignalKind = Literal["speech_started", "speech_stopped", "eager", "resumed", "endpoint"]


@dataclass(frozen=True, slots=True)
class TurnSignal:
    """A decision about who is speaking."""

    kind: TurnSignalKind
    at: int  # samples; where the decision was made
    speech: int  # samples; where speech began (speech_started, resumed) or ended (the others)
    reason: str = ""  # endpoint: "complete" | "silence" | "end_of_audio" | "too_long" | "pushed"


@dataclass(frozen=True, slots=True, eq=False)
class SpokenChunk:
    """A piece of reply audio."""

    samples: NDArray[np.float32]  # (n,) mono, full scale [-1, 1]
    rate_hz: int  # of the voice, e.g. 22050
    start: int  # samples at rate_hz since the reply's audio began
    text_end: int  # characters of the reply text spoken by the end of this chunk


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask its user's program to call."""

    name: str
    description: str
    parameters: str  # JSON Schema of the arguments, as JSON text


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a function to be called."""

    name: str
    arguments: str  # JSON text of an object


Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation's memory.

    A spoken or typed turn n leaves two: `u{n}`, what the user said, and `a{n}`, the reply.
    """

    id: str  # unique in its conversation
    role: Role
    text: str
    calls: tuple[ToolCall, ...] = ()  # of an assistant that asks for functions instead of talking


@dataclass(frozen=True, slots=True)
class ReplyOptions:
    """How one reply is to be made. None: as the conversation is set up."""

    instructions: str | None = None  # system prompt for this reply alone
    max_tokens: int | None = None
    voice: bool | None = None  # False: text only
    tools: tuple[Tool, ...] | None = None
    messages: tuple[Message, ...] | None = None  # to answer, instead of what is remembered
    remember: bool = True  # False: the conversation knows nothing of this reply


class Stage(Protocol[In_contra, Out_co]):
    """One conversation's state of one step. Not shared, not thread-safe."""

    def push(self, item: In_contra, /) -> Sequence[Out_co]:
        """Take one item; give what it completed."""
        ...

    def finish(self) -> Sequence[Out_co]:
        """The stream ended; give the rest. Nothing may be pushed afterwards."""
        ...


class Session(Protocol):
    """One growing KV cache: the five verbs that any LLM engine can stand behind."""

    @property
    def length(self) -> int:
        """Rows held."""
        ...

    def prefill(self, rows: Tensor, /) -> None:
        """Append rows, shape (n, d_model)."""
        ...

    def crop(self, length: int, /) -> None:
        """Keep the first `length` rows."""
        ...

    def logits(self) -> Tensor:
        """Next-token logits after the last row, shape (vocabulary,)."""
        ...

    def decode(self, token: int, /) -> None:
        """Append one token's row."""
        ...


ReplyTokens = Iterator[str]  # pieces of reply text, whole characters each


class Observer(Protocol):
    """Where a stage says what it is busy with; it carries no stopwatch of its own."""

    def span(self, name: str, /) -> AbstractContextManager[None]:
        """Enter while working on `name`: encoder, decoder, prefill, decode, speech, vad."""
        ...


class Unobserved:
    """The observer that costs nothing."""

    def span(self, name: str, /) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()
