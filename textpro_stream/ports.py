"""Every door between neighbours, as a Protocol: what one side may ask of the other.

Stages do not know each other; the pipeline introduces them through these ports, the server meets a
`Talk`, and tests put scripted neighbours behind the same ports (`tests/test_ports.py` holds both to
them). Values that pass through are in `contracts.py`, `commands.py` and `events.py`. How to put
something of your own behind one: docs/extending.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeVar

from textpro_stream.commands import Change, Command
from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.contracts import (
    AudioChunk,
    Delta,
    ListenedFrame,
    OpenTurn,
    Playout,
    Preview,
    ProsodyWindow,
    ReplyOptions,
    Revision,
    SpokenChunk,
    TokenSpan,
    ToneReading,
    Transcript,
    TurnSignal,
)
from textpro_stream.events import Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from textpro_stream.audio.devices import Capture, Device, Playback

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)


# Time and work


class Clock(Protocol):
    """Wall time for pacing and traces; never for deciding what was said."""

    def now(self) -> float:
        """Seconds since an arbitrary fixed moment; never goes back."""
        ...

    def cpu(self) -> float:
        """CPU seconds that this process has used, all threads."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return once `now() >= moment`."""
        ...


class Observer(Protocol):
    """Where a stage says what it is busy with; it carries no stopwatch of its own."""

    def span(self, name: str, /) -> AbstractContextManager[None]:
        """Enter while working on `name`: encoder, decoder, prefill, decode, speech, vad."""
        ...


# A conversation, as its user meets it


class Talk(Protocol):
    """One conversation: audio and commands in, events out."""

    @property
    def voice(self) -> float:
        """Speech probability of the last frame heard, for a level meter."""
        ...

    @property
    def position(self) -> int:
        """Samples heard so far."""
        ...

    @property
    def tokens_cached(self) -> int:
        """Rows of the LLM's cache that it takes up now; 0 where the LLM is elsewhere."""
        ...

    def next_turn(self) -> int:
        """The number of a turn that a command will bring."""
        ...

    async def push(self, item: AudioChunk | Command, /) -> None:
        """Hear audio, cut as you like, or obey a command after the audio before it.

        Waits while a second of audio is still unheard. `Interrupt` and `Played` count at once.

        Raises:
            StageError: the conversation has ended.
        """
        ...

    def push_nowait(self, item: AudioChunk | Command, /) -> None:
        """The same without waiting, up to half a minute of audio.

        Raises:
            Overloaded: more than that waits.
            StageError: the conversation has ended.
        """
        ...

    def __aiter__(self) -> AsyncIterator[Event]:
        """What it says; ends with `Finished`."""
        ...

    async def __aenter__(self) -> Self:
        """Begin."""
        ...

    async def __aexit__(self, *_: object) -> None:
        """End every task it started."""
        ...


class OpenTalk(Protocol):
    """Opens conversations, as `Engine.open` does."""

    def __call__(self, *, live: bool = True) -> Talk:
        """One that has heard nothing yet.

        Args:
            live: audio comes at its own pace, and somebody listens to the reply.
        """
        ...


# Stages


class Stage(Protocol[In_contra, Out_co]):
    """One conversation's state of one step. Not shared, not thread-safe."""

    def push(self, item: In_contra, /) -> Sequence[Out_co]:
        """Take one item; give what it completed."""
        ...

    def finish(self) -> Sequence[Out_co]:
        """The stream ended; give the rest. Nothing may be pushed afterwards."""
        ...


class ProsodyStage(Stage[ListenedFrame, ProsodyWindow | ToneReading], Protocol):
    """How it was said: windows while somebody speaks, a reading of the turn where it ends."""

    def tone(self, tail: Sequence[TokenSpan], /) -> ToneReading | None:
        """How the open turn sounds, were these words its last ones. Changes nothing.

        Returns:
            None where there are no words, or nothing shall be told of tone.
        """
        ...


class Vad(Protocol):
    """One conversation's voice activity detector."""

    @property
    def frame(self) -> int:
        """Samples per decision."""
        ...

    def probability(self, samples: NDArray[np.float32], /) -> float:
        """Speech probability of the next `frame` samples, shape (frame,), in [0, 1]."""
        ...


class VadModel(Protocol):
    """What conversations share of a detector."""

    def open(self) -> Vad:
        """A detector that has heard nothing yet."""
        ...


class Endpointer(Protocol):
    """Who is speaking, and is the turn over?"""

    @property
    def voice(self) -> float:
        """Speech probability of the last frame."""
        ...

    def push(self, frame: ListenedFrame, /) -> Sequence[TurnSignal]:
        """Take one frame; give what it decided."""
        ...

    def evidence(self, p_end: float) -> None:
        """P(end of turn) at the present pause, as far as is known now."""
        ...

    def ends_soon(self, p_end: Callable[[int], float], silence: int) -> bool:
        """Whether the turn is over within `draft_ms`, if the silence (samples so far) lasts.

        `p_end` gives the P(end of turn) after so many samples of silence.
        """
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


class EndOfTurn(Protocol):
    """How likely is it that what was said is complete? Asked again while the silence lasts."""

    def p_end(self, turn: OpenTurn, silence: int, /) -> float:
        """P(end of turn), in [0, 1].

        Args:
            turn: its words and their states, those of the preview included.
            silence: samples since the last voice.
        """
        ...

    def p_required(self, silence: int, options: TurnOptions, /) -> float:
        """The P(end of turn) that ends a turn after so much silence, in samples.

        The bounds `silence_ms` and `silence_long_ms` are the endpoint machine's to keep.
        """
        ...


class RecognizerWork(Protocol):
    """Counters of a recognizer, for `Finished.work`."""

    positions_final: int
    positions_provisional: int
    positions_heard: int
    decoder_passes: int
    tokens_committed: int


class Recognizer(Protocol):
    """The recognizer of one turn."""

    @property
    def work(self) -> RecognizerWork:
        """What it has done so far."""
        ...

    def push(self, item: AudioChunk, /) -> Sequence[Transcript]:
        """Take audio; give what it changed."""
        ...

    def preview(self) -> Preview:
        """What `finish` would commit, were the audio to end here."""
        ...

    def finish(self) -> Sequence[Transcript]:
        """Commit the rest; free right after `preview`."""
        ...

    def revise(self) -> Revision | None:
        """What was heard, heard again as a whole; None where there is nothing to hear again.

        Nothing is committed, and going on after it is as if nobody had asked.
        """
        ...


# The LLM


class Dialogue(Protocol):
    """The LLM's side of one conversation.

    Its user says how things stand; how the LLM gets there (which rows are cropped, what a server
    is asked) and on which thread or socket is its own affair. One call at a time, but for the
    reply that is being drawn: `follow` with other words ends it.
    """

    @property
    def tokens_cached(self) -> int:
        """Rows that its cache takes up here now; 0 where the LLM is elsewhere."""
        ...

    async def follow(self, turn: OpenTurn, /) -> None:
        """Be where this turn is: its words read and, where it may be over, ready to reply.

        Idempotent: a reply to just these words stays as it is. A turn without words forgets the
        open one; without words and `over`, what is remembered is to be replied to.

        Raises:
            StageError: the turn is longer than the context (once); what fitted was taken.
        """
        ...

    def reply(self, turn: int, options: ReplyOptions, /) -> AsyncGenerator[Delta, None]:
        """The reply to the turn followed last, or aside from it to `options.messages`.

        Drawn again without another `follow`, it begins anew. May be left at any time.

        Args:
            turn: number by which it will be remembered, `a{turn}`.
            options: what is different in this reply.
        """
        ...

    async def close_turn(self, playout: Playout | None, /) -> None:
        """The turn followed last is over: it leaves `u{n}` and, if there was a reply, `a{n}`.

        After a reply that stood aside, only that is over, and leaves `a{n}` if it is to be
        remembered. Makes room where the context is nearly full: nobody waits now.

        Args:
            playout: what the user got of the reply; None: there was none.
        """
        ...

    async def edit(self, change: Change, /) -> None:
        """Change what is remembered, or how to reply; what was drawn of a reply is void.

        Raises:
            ConfigError, StageError: it cannot be; everything stays as it was.
        """
        ...

    async def rest(self) -> None:
        """Give memory back; it is built anew when needed. Fit again after any failure."""
        ...

    async def close(self) -> None:
        """The conversation is over."""
        ...


class LlmEngine(Protocol):
    """A language model that conversations share, here or behind a URL."""

    @property
    def notice(self) -> str:
        """What a user should know about it, in one line; "" if there is nothing."""
        ...

    @property
    def knows_tools(self) -> bool:
        """Tools reach the model; otherwise they are left out."""
        ...

    @property
    def facts(self) -> dict[str, str]:
        """What computes, for `doctor` and benchmarks: device, dtype, or address."""
        ...

    @property
    def fault(self) -> str:
        """Why no reply can be had of it just now, in one line; "" where one can."""
        ...

    def open(self, options: LlmOptions, observer: Observer, /) -> Dialogue:
        """One conversation's dialogue; what stands before the first words is read at `follow`."""
        ...

    async def close(self) -> None:
        """Let go of sockets and threads."""
        ...


class Session(Protocol):
    """One growing KV cache of the local LLM."""

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


# The voice


class Voice(Protocol):
    """Speaks replies."""

    @property
    def rate_hz(self) -> int:
        """Of its audio."""
        ...

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


class Synthesizer(Protocol):
    """What turns text into audio inside the voice's process."""

    rate_hz: int

    def speak(
        self,
        text: str,
        pause: bool,
        rate_wpm: int,
        audio: Callable[[bytes], bool],
        word: Callable[[int, int], None],
    ) -> None:
        """Say a text.

        Args:
            text: without markup.
            pause: end with the pause that follows it.
            rate_wpm: words per minute.
            audio: takes PCM16; False means stop.
            word: takes the sample and the character at which a word begins.
        """
        ...


# The edges: sound cards, sockets, screens, downloads


class AudioStream(Protocol):
    """An open device. Its callback runs in a thread of its own and must never wait."""

    @property
    def latency_s(self) -> float:
        """From the callback to the ear, or from the mouth to the callback."""
        ...

    def close(self) -> None:
        """Stop at once. The callback is not called again."""
        ...


class AudioBackend(Protocol):
    """A machine's audio system."""

    def devices(self) -> Sequence[Device]:
        """All devices."""
        ...

    def capture(self, device: Device, callback: Capture, ended: Callable[[], None]) -> AudioStream:
        """Start recording: mono, at the device's rate. `ended` is called if it goes away."""
        ...

    def play(self, device: Device, callback: Playback) -> AudioStream:
        """Start playing: mono, at the device's rate."""
        ...


class ClientSocket(Protocol):
    """What of a WebSocket its writer needs."""

    async def send(self, message: str | bytes, /) -> None:
        """Write one message; waits while the client does not read."""
        ...


SessionState = Literal["idle", "listening", "thinking", "speaking"]


class SessionHub(Protocol):
    """The live conversations of a server, as far as the MQTT bridge needs them."""

    @property
    def state(self) -> SessionState:
        """What the busiest does."""
        ...

    def __len__(self) -> int:
        """How many are open."""
        ...

    @property
    def listening(self) -> bool:
        """Whether microphones are heard."""
        ...

    @property
    def gain(self) -> float:
        """Of replies, 0 to 1."""
        ...

    async def say(self, text: str) -> None:
        """Say something in every session."""
        ...

    async def stop(self) -> None:
        """Stop the replies of all sessions."""
        ...

    def listen(self, on: bool) -> None:
        """Hear what clients send, or silence in its place."""
        ...

    def volume(self, gain: float) -> None:
        """Scale reply audio."""
        ...

    def watch(self, watcher: Callable[[str, Event], None]) -> Callable[[], None]:
        """Call `watcher(session_id, event)` with all that follows; calling the result ends it."""
        ...


class ClientSession(Protocol):
    """A client's end of the lean route, as benchmarks need it."""

    async def send(self, audio: bytes, /) -> None:
        """Send PCM16."""
        ...

    async def command(self, kind: str, /, **fields: Any) -> None:
        """Send a text message."""
        ...

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """What the server says."""
        ...


class Report(Protocol):
    """Somewhere to show events; one source after another."""

    def begin(self, source: str, talk: Talk | None = None) -> None:
        """Events of this source follow; `talk` has the voice level."""
        ...

    def show(self, event: Event) -> None:
        """One event."""
        ...

    def close(self) -> None:
        """No more sources."""
        ...


ProgressStage = Literal["waiting", "downloading", "unpacking", "converting", "checking", "ready"]


class Progress(Protocol):
    """Where a pull tells how far it is.

    Called a few times a second, while downloading from a helper thread.
    """

    def __call__(
        self, name: str, done_bytes: int, total_bytes: int | None, stage: ProgressStage, /
    ) -> None:
        """Model `name` is at `done_bytes` of `total_bytes` (None: unknown) of `stage`."""
        ...
