"""The values that every stage shares; what stands behind them is in `ports.py`.

Positions are sample indices at 16 kHz since the stream began: integers add up exactly, and
seconds appear only on screens and on the wire. Stages return values; only `pipeline/` speaks
in events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_RATE = 16_000  # Hz; sources resample at the edge
MEL_HOP = 160  # samples; one mel frame = 10 ms
POSITION_HOP = 320  # samples; one encoder position = 20 ms
FRAME = 320  # samples; the grid on which a conversation moves, so cutting audio changes nothing


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
    # (n_ids, d_prosody) float32, on the host: how each token was said, see `[whisper] prosody`;
    # None if typed
    states: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Transcript:
    """What one step of the recognizer changed."""

    committed: tuple[TokenSpan, ...] = ()  # new since the last one; never revised
    hypothesis: tuple[TokenSpan, ...] = ()  # the whole open tail; replaces the last one


@dataclass(frozen=True, slots=True, eq=False)
class Ending:
    """Why the recognizer would stop writing where the audio ends, and what it heard just before.

    Log-probabilities are natural. They tell a sentence that is complete from one that lacks a word:
    a recognizer is a language model too.
    """

    end: float  # of end-of-text after the last word, where no mark stands yet
    full_stop: float  # of each mark there; what is left is the probability of another word
    comma: float
    question: float
    exclamation: float
    closed: float  # of end-of-text behind the mark that was written; `end` if there is none
    # (n, d_model) encoder states up to the edge, 20 ms each; the last is the newest
    states: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Revision:
    """Committed words, decoded again with all that was heard around them."""

    kept: int  # spans of the turn, from its first, that stand as they are
    spans: tuple[TokenSpan, ...]  # in place of all the others, the preview's included

    def of(
        self, committed: Sequence[TokenSpan], tail: Sequence[TokenSpan]
    ) -> tuple[TokenSpan, ...] | None:
        """All words of a turn; None where they are those that were committed and are to come.

        Other case and marks are no revision. Nor do words that somebody has seen vanish altogether:
        they were no noise a moment ago.
        """
        spans = (*committed[: self.kept], *self.spans)
        before, after = (text_of(words) for words in ((*committed, *tail), spans))
        same = not has_words(after) or bare_words(before) == bare_words(after)
        return None if same else spans


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """What the recognizer would commit, were the audio to end here."""

    spans: tuple[TokenSpan, ...] = ()
    ending: Ending | None = None  # None: it cannot tell, or heard no words


@dataclass(frozen=True, slots=True, eq=False)
class ListenedFrame:
    """One frame of audio and the words that were committed with it."""

    chunk: AudioChunk
    committed: tuple[TokenSpan, ...] = ()
    ends_turn: bool = False  # the turn's last words are in; what comes next belongs to another


UNSURE = "unsure"
NAMED = 0.5  # probability from which an emotion is named: likelier than all others together
AGITATED = "agitated"
AGITATED_FROM = 0.78  # probability; of arousal, which is never told as surer than 0.8 or so


@dataclass(frozen=True, slots=True)
class ToneReading:
    """How somebody sounds, as numbers for programs. None: unsure, or nothing to compare with yet.

    Pitch, loudness and pace are measured, against what this speaker did before. Arousal and emotion
    are guesses from the recogniser's states, learnt from acted speech: on recordings of another
    kind about two emotions in five are right (docs/notes/0013-prosody-vector.md).
    """

    arousal: float | None  # probability of an agitated voice against a calm one
    pitch: float | None  # semitones above the speaker's usual
    loudness: float | None  # dB above the speaker's usual
    pace: float | None  # words' tokens per second against the speaker's usual; 1 is as ever
    rising: float | None  # semitones by which the pitch ends above where it was just before
    emotion: dict[str, float]  # label: probability; sums to 1; empty where nothing can be read

    @property
    def guess(self) -> str:
        """The likeliest emotion, or `UNSURE` where it is not likely enough to be named."""
        if not self.emotion:
            return UNSURE
        label = max(self.emotion, key=self.emotion.__getitem__)
        return label if self.emotion[label] >= NAMED else UNSURE

    @property
    def named(self) -> str:
        """What may be said of it in a word: an emotion, `AGITATED` where none is, or `UNSURE`."""
        if self.guess == UNSURE and self.arousal is not None and self.arousal >= AGITATED_FROM:
            return AGITATED
        return self.guess


@dataclass(frozen=True, slots=True, eq=False)
class ProsodyWindow:
    """How a stretch of speech was said. Frozen once emitted."""

    start: int  # samples
    end: int  # samples, exclusive; consecutive windows overlap
    n_tokens: int  # token spans pooled; never 0
    embedding: NDArray[np.float32]  # (d_prosody,) mean of the tokens' states in the window
    f0_hz: float | None  # median over voiced frames; None if unvoiced
    f0_semitones: float | None  # against the speaker's running median; None if unvoiced
    energy_dbfs: float  # RMS of the frames in the window; 0 is full scale
    energy_z: float  # against the speaker's running mean, in running standard deviations
    rate_tps: float  # tokens per second of the stretch they cover
    tone: ToneReading | None = None  # None: switched off


EndpointReason = Literal["complete", "silence", "end_of_audio", "pushed"]
TurnSignalKind = Literal["speech_started", "speech_stopped", "eager", "resumed", "endpoint"]


@dataclass(frozen=True, slots=True)
class TurnSignal:
    """A decision about who is speaking."""

    kind: TurnSignalKind
    at: int  # samples; where the decision was made
    speech: int  # samples; where speech began (speech_started, resumed) or ended (the others)
    reason: EndpointReason | None = None  # of an endpoint


@dataclass(frozen=True, slots=True, eq=False)
class OpenTurn:
    """What somebody is saying, as far as it is known. Each one replaces the last."""

    number: int
    spans: tuple[TokenSpan, ...] = ()  # committed; typed words are a span without states
    tail: tuple[TokenSpan, ...] = ()  # what would be committed, were the turn over now
    over: bool = False  # it is, or may be: be ready to reply
    ending: Ending | None = None  # what the recognizer knew of it when the pause began
    tone: ToneReading | None = None  # of all its words; None: typed, not over yet, or switched off

    @property
    def named(self) -> str:
        """Its tone in a word, or `UNSURE`."""
        return self.tone.named if self.tone is not None else UNSURE

    @property
    def text(self) -> str:
        """All of its words."""
        return text_of((*self.spans, *self.tail))


def bare_word(word: str) -> str:
    """A word without case and marks; "" if it is nothing else."""
    return "".join(c for c in word.lower() if c.isalnum())


def text_of(spans: Iterable[TokenSpan]) -> str:
    """What they spell."""
    return "".join(span.text for span in spans)


def mean_logprob(spans: Iterable[TokenSpan]) -> float:
    """Mean per token, natural log; 0 of no tokens, as typed words have none."""
    n_tokens = total = 0.0
    for span in spans:
        n_tokens += len(span.ids)
        total += len(span.ids) * span.logprob
    return total / n_tokens if n_tokens else 0.0


def bare_words(text: str) -> list[str]:
    """Its words without case and marks: two texts with the same ones say the same."""
    return [word for word in map(bare_word, text.split()) if word]


def has_words(text: str) -> bool:
    """Whether there is anything in a transcript to reply to; marks and noises are not."""
    return any(character.isalnum() for character in text)


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

    @property
    def aside(self) -> bool:
        """It stands beside what is remembered, and beside what is being said meanwhile."""
        return self.messages is not None or not self.remember


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of a reply's text, whole characters."""

    text: str
    tokens: int = 1  # that it took


GenerationEndReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class GenerationEnd:
    """The LLM has no more to say. Always the last delta of a reply that did not fail."""

    reason: GenerationEndReason
    prompt_tokens: int | None = None  # in front of the reply; None: the engine does not tell
    cached_tokens: int | None = None  # of those, how many were there before the reply was asked for


Delta = TextDelta | ToolCall | GenerationEnd


@dataclass(frozen=True, slots=True)
class Playout:
    """What came of a reply: how much of it reached the user."""

    characters: int | None = None  # None: all of it
    calls_told: bool = True  # the functions that it asks for were told, and are remembered
