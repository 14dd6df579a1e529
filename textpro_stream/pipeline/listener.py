"""The hearing half of a conversation: frames in, events out, on the audio clock alone.

Frames of one size move through voice activity, recognizer and prosody in lockstep, so neither the
transport's cutting nor the machine's speed decides which words appear or where a turn ends. At a
pause the recognizer is held back and asked what it would say were this the end; if it was, that
answer is the transcript, and nothing is left to compute. Knows nothing of replies. Runs in the
device's thread.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from textpro_stream.ports import Clock
from textpro_stream.config import TurnOptions
from textpro_stream.contracts import (
    FRAME,
    SAMPLE_RATE,
    AudioChunk,
    Heard,
    ProsodyWindow,
    Stage,
    TokenSpan,
    Transcript,
    TurnSignal,
    samples_of_ms,
)
from textpro_stream.events import (
    Event,
    HypothesisChanged,
    ProsodyUpdated,
    SpeechStarted,
    SpeechStopped,
    TurnEager,
    TurnEnded,
    TurnResumed,
    WordsCommitted,
)
from textpro_stream.pipeline.doors import Endpointing, Recognizing
from textpro_stream.telemetry.marks import TurnMarks
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn.barge_in import BargeIn, BargeInSignal

OPENING = 2 * SAMPLE_RATE  # samples kept beyond the pre-roll: deciding that speech began takes time


@dataclass(slots=True)
class Turn:
    """One person's say, as far as it was heard."""

    number: int
    recognizer: Recognizing
    marks: TurnMarks = field(default_factory=TurnMarks)
    transcript: str = ""  # committed so far
    tail: Sequence[TokenSpan] = ()  # what the draft holds beyond it
    held: list[AudioChunk] | None = None  # frames kept back while the turn may be over
    shown: str = ""  # the last hypothesis that went out
    speech: int = 0  # samples; where speech began
    speech_end: int = 0  # samples; where the endpoint says that speech ended
    ended_at: int = 0  # samples; where the endpoint was decided
    decided: float = 0.0  # monotonic; when it was


@dataclass(frozen=True, slots=True)
class Step:
    """What some frames brought."""

    events: list[Event]
    turn: Turn | None  # that paused or ended with the last of them
    barged: list[BargeInSignal]


@dataclass(slots=True)
class WorkTotals:
    """Counters of all turns so far, for `Finished`."""

    words: int = 0
    turns: int = 0  # that held words
    positions_final: int = 0
    positions_provisional: int = 0
    positions_heard: int = 0
    decoder_passes: int = 0
    tokens_committed: int = 0

    def add(self, turn: Turn) -> None:
        """A turn is over."""
        words = len(turn.transcript.split())
        self.words += words
        self.turns += has_words(turn.transcript)
        work = turn.recognizer.work
        self.positions_final += work.positions_final
        self.positions_provisional += work.positions_provisional
        self.positions_heard += work.positions_heard
        self.decoder_passes += work.decoder_passes
        self.tokens_committed += work.tokens_committed

    def figures(self) -> dict[str, float]:
        """The counters as ratios that must not grow with the length of the audio."""
        frames, tokens = max(1, self.positions_heard), max(1, self.tokens_committed)
        return {
            "frames_final_per_frame": self.positions_final / frames,
            "frames_provisional_per_frame": self.positions_provisional / frames,
            "decoder_steps_per_token": self.decoder_passes / tokens,
        }


class Ear:
    """One conversation's listener.

    Args:
        open_recognizer: given the sample index where a turn's audio begins.
        endpointer: who is speaking, and is the turn over?
        prosody: how it was said.
        barge_in: is the person speaking over the reply?
        preroll_ms: audio from before the voice was noticed that the recognizer gets.
        trace: told where the audio clock stands, and of time spent on voice activity.
        clock: for latency marks only; it decides nothing.
    """

    def __init__(
        self,
        open_recognizer: Callable[[int], Recognizing],
        endpointer: Endpointing,
        prosody: Stage[Heard, ProsodyWindow],
        barge_in: BargeIn,
        *,
        preroll_ms: int,
        trace: Trace,
        clock: Clock,
    ) -> None:
        self._open, self._endpointer, self._prosody = open_recognizer, endpointer, prosody
        self._barge_in = barge_in
        self._preroll, self._trace, self._clock = samples_of_ms(preroll_ms), trace, clock
        self._recent: deque[AudioChunk] = deque(maxlen=(self._preroll + OPENING) // FRAME)
        self._turn: Turn | None = None
        self._fresh: tuple[TokenSpan, ...] = ()  # committed with the last frame
        self._numbers = itertools.count(1)
        self._n_turns = 0  # the number of the last turn that was spoken
        self._events: list[Event] = []
        self._decided: Turn | None = None
        self._ended: TurnEnded | None = None
        self._barged: list[BargeInSignal] = []
        self._heard_until = 0  # samples; no turn hears the words of the one before
        self.position = 0  # samples heard
        self.taken = 0  # samples; end of the last frame that was begun
        self.end: int | None = None  # set from outside: samples of true audio, once that is known
        self.replying = False  # set from outside: a reply is being heard
        self.totals = WorkTotals()

    @property
    def voice(self) -> float:
        """Speech probability of the last frame."""
        return self._endpointer.voice

    def push(self, frames: Sequence[AudioChunk]) -> Step:
        """Hear frames up to the next pause or endpoint; `taken` tells how far that is."""
        for frame in frames:
            self._hear(frame)
            if self._decided or self._barged:
                break
        return self._step()

    def configure(self, options: TurnOptions) -> None:
        """Other rules about turns from here on; an open turn goes on under them."""
        self._endpointer.configure(options)
        self._barge_in.configure(options)
        self._preroll = samples_of_ms(options.preroll_ms)
        self._recent = deque(self._recent, (self._preroll + OPENING) // FRAME)

    def finish(self) -> Step:
        """The audio ended: so does an open turn."""
        committed = self._decide(self._endpointer.finish(), None)
        self._close_without_frame(committed, self._prosody.finish)
        return self._step()

    def press(self) -> Step:
        """Push-to-talk: a turn begins here."""
        self._decide(self._endpointer.press(self.position), None)
        return self._step()

    def release(self) -> Step:
        """Push-to-talk: the turn ends here."""
        self._close_without_frame(self._decide(self._endpointer.release(self.position), None))
        return self._step()

    def clear(self) -> Step:
        """Forget the open turn, and the sound before it: none of it will be heard again."""
        if self._turn is not None:
            self._turn.transcript = ""  # its work counts, its words do not
        self._drop_turn()
        return self._step()

    def abandon(self) -> Step:
        """The recognizer failed: what the open turn had so far is its end."""
        turn = self._turn
        if turn is not None:
            turn.decided, turn.ended_at, turn.speech_end = (
                self._clock.now(),
                self.position,
                self.position,
            )
            ended = TurnEnded(turn.number, self.position, turn.transcript, "failed", False)
            self._drop_turn()
            self._decided = turn
            self._events.append(ended)
        return self._step()

    def count_turn(self) -> int:
        """The number of a turn that is not spoken. May be called from any thread."""
        return next(self._numbers)

    def _drop_turn(self) -> None:
        if self._turn is not None:
            self.totals.add(self._turn)
            nothing = AudioChunk(np.zeros(0, np.float32), self.position)
            self._prosody.push(Heard(nothing, (), ends_turn=True))
        self._turn, self._decided, self._ended, self._fresh = None, None, None, ()
        self._endpointer.dismiss()
        self._recent.clear()
        self._heard_until = self.position

    def _hear(self, frame: AudioChunk) -> None:
        self.taken = frame.end
        self.position = frame.end if self.end is None else min(frame.end, self.end)
        self._trace.position = self.position
        self._recent.append(frame)
        with self._trace.span("vad"):
            signals = self._endpointer.push(Heard(frame, self._fresh))
        committed = self._decide(signals, frame)
        self._fresh = committed
        words = "".join(span.text for span in committed)
        barged = self._barge_in.push(self._endpointer.voice, self.replying, words)
        if barged:
            self._barged.append(barged)
        self._close_frame(self._prosody.push(Heard(frame, committed, self._ended is not None)))

    def _decide(
        self, signals: Sequence[TurnSignal], frame: AudioChunk | None
    ) -> tuple[TokenSpan, ...]:
        """Act on what the endpointer made of a frame; give the words that came with it."""
        committed: list[TokenSpan] = []
        for signal in signals:
            match signal.kind:
                case "speech_started":
                    committed += self._begin(signal)
                    frame = None  # it was among the recent ones
                case "speech_stopped":
                    if self._turn:
                        self._turn.marks.again("vad_stop", self._clock.now())
                        event = SpeechStopped(self._turn.number, self.position, signal.speech)
                        self._events.append(event)
                case "eager":
                    if self._turn:
                        if frame is not None:
                            committed += self._recognize(self._turn, [frame])
                            frame = None
                        self._pause(self._turn)
                case "resumed":
                    if self._turn:
                        committed += self._resume(self._turn)
                case "endpoint":
                    if self._turn:
                        committed += self._end(self._turn, signal, frame)
                        frame = None
        if frame is not None and self._turn:
            committed += self._recognize(self._turn, [frame])
        return tuple(committed)

    def _begin(self, signal: TurnSignal) -> list[TokenSpan]:
        if self._turn:  # the same turn: the voice came back before the pause meant anything
            return self._recognize(self._turn, [self._recent[-1]])
        self._n_turns = next(self._numbers)
        since = max(signal.speech - self._preroll, self._heard_until)
        frames = [frame for frame in self._recent if frame.end > since]
        start = frames[0].start if frames else self.position
        self._turn = Turn(self._n_turns, self._open(start), speech=signal.speech)
        self._events.append(SpeechStarted(self._n_turns, self.position, signal.speech))
        return self._recognize(self._turn, frames)

    def _pause(self, turn: Turn) -> None:
        """Ask what the transcript would be, and hold further audio back meanwhile."""
        if turn.held is not None:
            return
        turn.held = []
        turn.tail = turn.recognizer.preview()
        text = "".join(span.text for span in turn.tail)
        self._show(turn, text)
        self._endpointer.evidence(turn.transcript + text)
        if has_words(turn.transcript + text):
            self._events.append(TurnEager(turn.number, self.position))
            self._decided = turn

    def _resume(self, turn: Turn) -> list[TokenSpan]:
        held, turn.held = turn.held or [], None
        if has_words(turn.transcript + "".join(span.text for span in turn.tail)):
            self._events.append(TurnResumed(turn.number, self.position))
        turn.tail = ()
        return self._recognize(turn, held)

    def _end(self, turn: Turn, signal: TurnSignal, frame: AudioChunk | None) -> list[TokenSpan]:
        turn.decided, turn.ended_at = self._clock.now(), self.position
        turn.speech_end = signal.speech
        # A key says exactly where a turn ends; else the next one may begin in this one's silence.
        self._heard_until = self.position if signal.reason == "pushed" else signal.speech
        committed = self._recognize(turn, [frame]) if frame else []
        committed += self._take(turn, turn.recognizer.finish())
        turn.marks.note("asr_final", self._clock.now())
        self.totals.add(turn)
        reason = signal.reason if has_words(turn.transcript) else "no_words"
        self._ended = TurnEnded(turn.number, self.position, turn.transcript, reason)
        self._turn, self._decided = None, turn
        return committed

    def _recognize(self, turn: Turn, frames: Sequence[AudioChunk]) -> list[TokenSpan]:
        if turn.held is not None:
            turn.held += frames
            return []
        return [span for frame in frames for span in self._take(turn, turn.recognizer.push(frame))]

    def _take(self, turn: Turn, transcripts: Sequence[Transcript]) -> list[TokenSpan]:
        """Send out what the recognizer changed; give the new words."""
        committed: list[TokenSpan] = []
        for transcript in transcripts:
            if transcript.committed:
                committed += transcript.committed
                event = WordsCommitted(turn.number, self.position, transcript.committed)
                turn.transcript += event.text
                self._events.append(event)
            self._show(turn, "".join(span.text for span in transcript.hypothesis))
        return committed

    def _show(self, turn: Turn, hypothesis: str) -> None:
        if hypothesis == turn.shown:
            return
        turn.shown = hypothesis
        event = HypothesisChanged(turn.number, self.position, hypothesis)
        last = self._events[-1] if self._events else None
        if isinstance(last, HypothesisChanged) and last.at == event.at:
            self._events.pop()  # nobody could have seen it: this frame ends with a better one
        self._events.append(event)

    def _close_frame(self, windows: Sequence[ProsodyWindow]) -> None:
        """How it was said goes out before the turn's end does."""
        for window in windows:
            self._events.append(ProsodyUpdated(max(1, self._n_turns), self.position, window))
        if self._ended:
            self._events.append(self._ended)
            self._ended = None

    def _close_without_frame(
        self,
        committed: tuple[TokenSpan, ...],
        rest: Callable[[], Sequence[ProsodyWindow]] = tuple,
    ) -> None:
        nothing = AudioChunk(np.zeros(0, np.float32), self.position)
        last_words = Heard(nothing, committed, self._ended is not None)
        self._close_frame([*self._prosody.push(last_words), *rest()])

    def _step(self) -> Step:
        events, self._events = self._events, []
        decided, self._decided = self._decided, None
        barged, self._barged = self._barged, []
        return Step(events, decided, barged)


def has_words(text: str) -> bool:
    """Whether there is anything in a transcript to answer."""
    return any(character.isalnum() for character in text)
