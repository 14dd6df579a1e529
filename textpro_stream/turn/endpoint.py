"""The endpoint machine: audio clock in, decisions about the turn out.

    idle ──speech_started──> listening ──speech_stopped, eager──> eager ──endpoint──> idle
                                 ^                                  │
                                 └─────────────resumed──────────────┘

A pure state machine on the frame grid: no I/O, no wall clock, nothing about words but the
probability that they end a turn. It keeps less than one detector window of audio; the audio from
before `TurnSignal.speech` that the recognizer gets (`preroll_ms`) is the pipeline's ring buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from textpro_stream.config import TurnOptions
from textpro_stream.contracts import FRAME, EndpointReason, ListenedFrame, TurnSignal, samples_of_ms
from textpro_stream.ports import Vad
from textpro_stream.turn.completeness import Completeness
from textpro_stream.turn.voice import VoiceTrack, VoiceWindow

PEnd = Callable[[int], float]
PRequired = Callable[[int, TurnOptions], float]


def required(p_required: PRequired, silence: int, options: TurnOptions) -> float:
    """The P(end of turn) that ends a turn after so much silence (samples), bounds kept."""
    if silence >= samples_of_ms(options.silence_long_ms):
        return 0.0
    if silence < samples_of_ms(options.silence_ms):
        return float("inf")
    return p_required(silence, options)


class Endpointer:
    """One conversation's turns. A `Stage` from `ListenedFrame` to `TurnSignal`.

    Voice opens a turn, and brings one back from a pause, once it lasted `start_ms`: a click does
    neither. A pause longer than `eager_ms` is announced; it becomes the endpoint, between
    `silence_ms` and `silence_long_ms`, as soon as the end of the turn is likely enough for the
    silence so far. While a voice has come back but not yet lasted, the decision waits for it.

    With `push_to_talk`, `press` and `release` open and end a turn; pauses between them are still
    announced, so a reply can be drafted, but never end it.

    Args:
        vad: the detector.
        options: limits.
        p_required: how likely an end must be; `EndOfTurn.p_required` of whoever says how likely it
            is (`evidence`). None: that of `Completeness`.
    """

    def __init__(self, vad: Vad, options: TurnOptions, p_required: PRequired | None = None) -> None:
        self._p_required = p_required or Completeness().p_required
        self._track = VoiceTrack(vad, options.threshold)
        self.configure(options)
        self._state: Literal["idle", "listening", "eager"] = "idle"
        self._run_start: int | None = None  # samples; where the present voice began
        self._voice_end: int | None = None  # samples; end of this turn's last voice
        self._p_end: float | None = None  # of the present pause; None while nobody has said
        self._at = 0  # samples received

    @property
    def voice(self) -> float:
        """The detector's last probability, for display and for `BargeIn`."""
        return self._track.probability

    @property
    def speaking(self) -> bool:
        """A turn is open and its voice has not paused."""
        return self._state == "listening"

    def configure(self, options: TurnOptions) -> None:
        """Other limits from here on; an open turn goes on under them."""
        self._track.threshold = options.threshold
        self._push_to_talk = options.push_to_talk
        self._start = samples_of_ms(options.start_ms)
        self._eager = samples_of_ms(options.eager_ms)
        self._options = options

    def push(self, frame: ListenedFrame, /) -> Sequence[TurnSignal]:
        """Take one frame (`FRAME` samples); give what it decided."""
        assert len(frame.chunk.samples) == FRAME, "the endpoint machine moves in whole frames"
        self._at = frame.chunk.end
        signals: list[TurnSignal] = []
        for window in self._track.push(frame.chunk):
            self._hear(window, signals)
        if self._state == "eager":
            self._judge(signals)
        return signals

    def evidence(self, p_end: float) -> None:
        """P(end of turn) at the present pause, as far as is known now.

        Counts until the next one, or until the voice comes back; between pauses it is ignored. The
        next frame decides.
        """
        if self._state == "eager":
            self._p_end = p_end

    def ends_soon(self, p_end: PEnd, silence: int) -> bool:
        """Whether the turn is over within `draft_ms`, if the silence lasts: it is time to draft.

        With a key nobody can tell.

        Args:
            p_end: P(end of turn) after so many samples of silence.
            silence: samples so far.
        """
        if self._push_to_talk:
            return True
        later = silence + samples_of_ms(self._options.draft_ms)
        return p_end(later) >= required(self._p_required, later, self._options)

    def dismiss(self) -> None:
        """Forget the open turn, and wait for a new voice."""
        self._close()

    def press(self, at: int) -> Sequence[TurnSignal]:
        """The key went down at `at` (samples): a turn opens."""
        if self._state != "idle":
            return ()
        self._state = "listening"
        return (TurnSignal("speech_started", at, at),)

    def release(self, at: int) -> Sequence[TurnSignal]:
        """The key went up at `at` (samples): the turn is over."""
        return self._end(at, "pushed")

    def finish(self) -> Sequence[TurnSignal]:
        """The stream ended; so does an open turn. Nothing may be pushed afterwards."""
        return self._end(self._at, "end_of_audio")

    def _hear(self, window: VoiceWindow, signals: list[TurnSignal]) -> None:
        """Move by one decision of the detector."""
        if not window.voiced:
            self._run_start = None
            if self._state == "listening" and self._silent(window.end) >= self._eager:
                self._pause(self._at, signals)
                signals.append(TurnSignal("eager", self._at, self._spoken_until(self._at)))
            return
        if self._run_start is None:
            self._run_start = window.start
        lasting = window.end - self._run_start >= self._start
        if self._state == "idle" and lasting and not self._push_to_talk:
            self._state = "listening"
            signals.append(TurnSignal("speech_started", self._at, self._run_start))
        elif self._state == "eager" and lasting:
            self._state = "listening"
            self._p_end = None
            signals.append(TurnSignal("resumed", self._at, self._run_start))
        if self._state == "listening":
            self._voice_end = window.end

    def _judge(self, signals: list[TurnSignal]) -> None:
        """End the turn if this pause is long enough for what the words promise."""
        silent = self._silent(self._track.end)
        if self._push_to_talk or self._track.voiced:
            return
        needed = required(self._p_required, silent, self._options)
        if (0.0 if self._p_end is None else self._p_end) >= needed:
            signals.extend(self._end(self._at, "complete" if needed else "silence"))

    def _silent(self, until: int) -> int:
        """Samples of decided audio since the turn's last voice; 0 before the first."""
        return 0 if self._voice_end is None else until - self._voice_end

    def _spoken_until(self, at: int) -> int:
        """Where this turn's last voice ended; `at` if there was none (a key, no voice)."""
        return at if self._voice_end is None else min(self._voice_end, at)

    def _pause(self, at: int, signals: list[TurnSignal]) -> None:
        self._state = "eager"
        signals.append(TurnSignal("speech_stopped", at, self._spoken_until(at)))

    def _end(self, at: int, reason: EndpointReason) -> Sequence[TurnSignal]:
        signals: list[TurnSignal] = []
        if self._state == "idle":
            return signals
        if self._state == "listening":
            self._pause(at, signals)
        signals.append(TurnSignal("endpoint", at, self._spoken_until(at), reason))
        self._close()
        return signals

    def _close(self) -> None:
        self._state = "idle"
        self._run_start = None
        self._voice_end = None
        self._p_end = None
