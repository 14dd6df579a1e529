"""The hearing half of a conversation: frames in, events out, on the audio clock alone.

Frames of one size move through voice activity, recognizer and prosody in lockstep, so neither the
transport's cutting nor the machine's speed decides which words appear or where a turn ends. At a
pause the recognizer is held back and asked what it would say were this the end; if it was, that
answer is the transcript, and nothing is left to compute. Knows nothing of replies. Runs in the
device's thread, as steps that are values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from textpro_stream.config import TurnOptions
from textpro_stream.contracts import (
    FRAME,
    SAMPLE_RATE,
    AudioChunk,
    ListenedFrame,
    OpenTurn,
    ProsodyWindow,
    TokenSpan,
    ToneReading,
    Transcript,
    TurnSignal,
    has_words,
    samples_of_ms,
    text_of,
)
from textpro_stream.events import (
    Event,
    HypothesisChanged,
    ProsodyUpdated,
    SpeechStarted,
    SpeechStopped,
    TranscriptRevised,
    TurnEager,
    TurnEnded,
    TurnEndReason,
    TurnResumed,
    TurnTone,
    WordsCommitted,
)
from textpro_stream.pipeline.numbers import TurnNumbers
from textpro_stream.pipeline.spoken_turn import SpokenTurn, WorkTotals
from textpro_stream.ports import Clock, EndOfTurn, Endpointer, ProsodyStage, Recognizer
from textpro_stream.runtime.device import Lane
from textpro_stream.runtime.device import Step as DeviceStep
from textpro_stream.telemetry.marks import TurnMarks
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn.barge_in import BargeIn, BargeInSignal

ASK = samples_of_ms(100)  # between two looks at whether a pause is the end
OPENING = 2 * SAMPLE_RATE  # samples kept beyond the pre-roll: deciding that speech began takes time


@dataclass(frozen=True, slots=True)
class Listened:
    """What some frames, or a command, brought."""

    events: list[Event]
    open: tuple[OpenTurn, TurnMarks] | None  # what is being said now, if anything is
    turn: SpokenTurn | None  # that paused or ended with the last of the events
    barged: list[BargeInSignal]


class Listener:
    """One conversation's listener.

    Args:
        open_recognizer: given the sample index where a turn's audio begins.
        endpointer: who is speaking, and is the turn over?
        prosody: how it was said.
        barge_in: is the person speaking over the reply?
        end_of_turn: is what was said complete? Asked `ASK` apart while the turn may be over.
        numbers: of turns.
        preroll_ms: audio from before the voice was noticed that the recognizer gets.
        unclear: mean probability of a turn's tokens below which it is not to be answered.
        trace: told where the audio clock stands and of time spent on voice activity.
        clock: for marks only; decides nothing.
    """

    def __init__(
        self,
        open_recognizer: Callable[[int], Recognizer],
        endpointer: Endpointer,
        prosody: ProsodyStage,
        barge_in: BargeIn,
        *,
        end_of_turn: EndOfTurn,
        numbers: TurnNumbers,
        preroll_ms: int,
        unclear: float,
        trace: Trace,
        clock: Clock,
    ) -> None:
        self._open, self._endpointer, self._prosody = open_recognizer, endpointer, prosody
        self._barge_in, self._end_of_turn = barge_in, end_of_turn
        self._preroll, self._numbers = samples_of_ms(preroll_ms), numbers
        self._unclear = unclear
        self._trace, self._clock = trace, clock
        self._recent: deque[AudioChunk] = deque(maxlen=(self._preroll + OPENING) // FRAME)
        self._turn: SpokenTurn | None = None
        self._n_turns = 0  # the number of the last turn that was spoken
        self._events: list[Event] = []
        self._decided: SpokenTurn | None = None
        self._ended: TurnEnded | None = None
        self._barged: list[BargeInSignal] = []
        self._heard_until = 0  # samples; no turn hears the words of the one before
        self.position = 0  # samples heard
        self.taken = 0  # samples; end of the last frame that was begun
        self._true_end: int | None = None  # samples of true audio, once that is known
        self.totals = WorkTotals()

    @property
    def voice(self) -> float:
        """Speech probability of the last frame."""
        return self._endpointer.voice

    def push(
        self, frames: Sequence[AudioChunk], *, interruptible: bool = False, end: int | None = None
    ) -> Listened:
        """Hear frames up to the next pause or endpoint; `taken` tells how far that is.

        Args:
            frames: of `FRAME` samples each.
            interruptible: a reply is being heard that speech may stop.
            end: samples of true audio, once that is known: the last frame is filled up after it.
        """
        self._true_end = end
        for frame in frames:
            self._hear(frame, interruptible)
            if self._decided or self._barged:
                break
        return self._listened()

    def configure(self, options: TurnOptions) -> None:
        """Other rules about turns from here on; an open turn goes on under them."""
        self._endpointer.configure(options)
        self._barge_in.configure(options)
        self._preroll, self._unclear = samples_of_ms(options.preroll_ms), options.unclear
        self._recent = deque(self._recent, (self._preroll + OPENING) // FRAME)

    def finish(self) -> Listened:
        """The audio ended: so does an open turn."""
        committed = self._decide(self._endpointer.finish(), None)
        self._close_without_frame(committed, self._prosody.finish)
        return self._listened()

    def press(self) -> Listened:
        """Push-to-talk: a turn begins here."""
        self._decide(self._endpointer.press(self.position), None)
        return self._listened()

    def release(self) -> Listened:
        """Push-to-talk: the turn ends here."""
        self._close_without_frame(self._decide(self._endpointer.release(self.position), None))
        return self._listened()

    def clear(self) -> Listened:
        """Forget the open turn, and the sound before it: none of it will be heard again."""
        if self._turn is not None:
            self._turn.spans.clear()  # its work counts, its words do not
        self._drop_turn()
        return self._listened()

    def abandon(self) -> Listened:
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
        return self._listened()

    def _drop_turn(self) -> None:
        if self._turn is not None:
            self.totals.add(self._turn)
            nothing = AudioChunk(np.zeros(0, np.float32), self.position)
            self._prosody.push(ListenedFrame(nothing, (), ends_turn=True))
        self._turn, self._decided, self._ended = None, None, None
        self._endpointer.dismiss()
        self._recent.clear()
        self._heard_until = self.position

    def _hear(self, frame: AudioChunk, interruptible: bool) -> None:
        self.taken = frame.end
        self.position = frame.end if self._true_end is None else min(frame.end, self._true_end)
        self._trace.position = self.position
        self._recent.append(frame)
        turn = self._turn
        if turn is not None and turn.held is not None and frame.end % ASK == 0:
            self._ask(turn)
        with self._trace.span("vad"):
            signals = self._endpointer.push(ListenedFrame(frame))
        committed = self._decide(signals, frame)
        words = text_of(committed)
        voice = self._endpointer.voice
        barged = self._barge_in.push(voice, interruptible, words, self._overhear)
        if barged:
            self._barged.append(barged)
        self._close_frame(
            self._prosody.push(ListenedFrame(frame, committed, self._ended is not None))
        )

    def _overhear(self) -> str | None:
        """What the open turn says so far, its last words unsure; None while there is no turn."""
        turn = self._turn
        if turn is None:
            return None
        if turn.held is not None:
            return turn.text
        return turn.transcript + text_of(turn.recognizer.preview().spans)

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
                        self._pause(self._turn, signal.speech)
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
        self._n_turns = self._numbers.next()
        since = max(signal.speech - self._preroll, self._heard_until)
        frames = [frame for frame in self._recent if frame.end > since]
        start = frames[0].start if frames else self.position
        self._turn = SpokenTurn(self._n_turns, self._open(start), speech=signal.speech)
        self._events.append(SpeechStarted(self._n_turns, self.position, signal.speech))
        return self._recognize(self._turn, frames)

    def _pause(self, turn: SpokenTurn, speech: int) -> None:
        """Ask what the transcript would be, and hold further audio back meanwhile."""
        if turn.held is not None:
            return
        turn.held = []
        turn.pause()
        self._show(turn, text_of(turn.tail))
        turn.silent_since = speech
        self._ask(turn)

    def _ask(self, turn: SpokenTurn) -> None:
        """Ask how likely it is that this is the end, and tell the endpointer.

        How likely it will be if the silence lasts is known already: the draft waits until it would
        be ready just in time, and a pause that is over before costs none. So does the second look
        at words in doubt. What it says is not what the head was trained on, so it is not asked.
        """
        silence, asked = self.position - turn.silent_since, turn.heard
        p_end = partial(self._end_of_turn.p_end, asked)
        self._endpointer.evidence(p_end(silence))
        if turn.drafts or not has_words(asked.text):
            return
        if self._endpointer.ends_soon(p_end, silence):
            turn.drafts = True
            turn.revise()
            self._events.append(TurnEager(turn.number, self.position))
            self._decided = turn

    def _resume(self, turn: SpokenTurn) -> list[TokenSpan]:
        held, turn.held = turn.held or [], None
        if turn.drafts:
            self._events.append(TurnResumed(turn.number, self.position))
        turn.drafts = False
        turn.tail, turn.revised, turn.ending, turn.tone = (), None, None, None
        return self._recognize(turn, held)

    def _end(
        self, turn: SpokenTurn, signal: TurnSignal, frame: AudioChunk | None
    ) -> list[TokenSpan]:
        turn.decided, turn.ended_at = self._clock.now(), self.position
        turn.speech_end = signal.speech
        # A key says exactly where a turn ends; else the next one may begin in this one's silence.
        self._heard_until = self.position if signal.reason == "pushed" else signal.speech
        committed = self._recognize(turn, [frame]) if frame else []
        if turn.held is None:  # no pause came before
            turn.pause()
        if not turn.drafts:
            turn.revise()
        committed += self._take(turn, turn.recognizer.finish())
        turn.tail = ()
        if turn.revised is not None:
            revised = TranscriptRevised(turn.number, self.position, turn.revised)
            self._events.append(revised)
        turn.marks.note("asr_final", self._clock.now())
        self.totals.add(turn)
        assert signal.reason is not None, "an endpoint has a reason"
        reason: TurnEndReason = signal.reason
        if not has_words(turn.transcript):
            reason = "no_words"
        elif not turn.is_clear(self._unclear):
            reason = "unclear"
        self._ended = TurnEnded(turn.number, self.position, turn.transcript, reason)
        self._turn, self._decided = None, turn
        return committed

    def _recognize(self, turn: SpokenTurn, frames: Sequence[AudioChunk]) -> list[TokenSpan]:
        if turn.held is not None:
            turn.held += frames
            return []
        return [span for frame in frames for span in self._take(turn, turn.recognizer.push(frame))]

    def _take(self, turn: SpokenTurn, transcripts: Sequence[Transcript]) -> list[TokenSpan]:
        """Send out what the recognizer changed; give the new words."""
        committed: list[TokenSpan] = []
        for transcript in transcripts:
            if transcript.committed:
                committed += transcript.committed
                turn.spans += transcript.committed
                self._events.append(
                    WordsCommitted(turn.number, self.position, transcript.committed)
                )
            self._show(turn, text_of(transcript.hypothesis))
        return committed

    def _show(self, turn: SpokenTurn, hypothesis: str) -> None:
        if hypothesis == turn.shown:
            return
        turn.shown = hypothesis
        event = HypothesisChanged(turn.number, self.position, hypothesis)
        last = self._events[-1] if self._events else None
        if isinstance(last, HypothesisChanged) and last.at == event.at:
            self._events.pop()  # nobody could have seen it: this frame ends with a better one
        self._events.append(event)

    def _close_frame(self, heard: Sequence[ProsodyWindow | ToneReading]) -> None:
        """How it was said goes out before the turn's end does."""
        turn = max(1, self._n_turns)
        for one in heard:
            if isinstance(one, ToneReading):
                if self._ended and self._decided:
                    self._decided.tone = one
                self._events.append(TurnTone(turn, self.position, one))
            else:
                self._events.append(ProsodyUpdated(turn, self.position, one))
        if self._ended:
            self._events.append(self._ended)
            self._ended = None

    def _close_without_frame(
        self,
        committed: tuple[TokenSpan, ...],
        rest: Callable[[], Sequence[ProsodyWindow | ToneReading]] = tuple,
    ) -> None:
        nothing = AudioChunk(np.zeros(0, np.float32), self.position)
        last_words = ListenedFrame(nothing, committed, self._ended is not None)
        self._close_frame([*self._prosody.push(last_words), *rest()])

    def _listened(self) -> Listened:
        events, self._events = self._events, []
        decided, self._decided = self._decided, None
        barged, self._barged = self._barged, []
        turn = self._turn
        words = None
        if turn is not None:
            if turn.drafts and turn.tone is None:  # now that prosody has this frame's words too
                turn.tone = self._prosody.tone(turn.tail)
            words = turn.as_open(over=turn.drafts), turn.marks
        return Listened(events, words, decided, barged)


@dataclass(frozen=True, slots=True)
class Push(DeviceStep[Listened]):
    """Hear some frames."""

    lane = Lane.HEAR
    listener: Listener
    frames: Sequence[AudioChunk]
    interruptible: bool
    end: int | None

    def run(self) -> Listened:
        """See `Listener.push`."""
        return self.listener.push(self.frames, interruptible=self.interruptible, end=self.end)


@dataclass(frozen=True, slots=True)
class Control(DeviceStep[Listened]):
    """Do something to the open turn."""

    lane = Lane.HEAR
    listener: Listener
    what: Literal["press", "release", "clear", "abandon", "finish"]

    def run(self) -> Listened:
        """See the listener's method of that name."""
        match self.what:
            case "press":
                return self.listener.press()
            case "release":
                return self.listener.release()
            case "clear":
                return self.listener.clear()
            case "abandon":
                return self.listener.abandon()
            case "finish":
                return self.listener.finish()


@dataclass(frozen=True, slots=True)
class SetRules(DeviceStep[None]):
    """Other rules about turns."""

    lane = Lane.HEAR
    listener: Listener
    options: TurnOptions

    def run(self) -> None:
        """See `Listener.configure`."""
        self.listener.configure(self.options)
