"""Spoken turns on their way to becoming items: when speech is told of, what is transcribed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

from textpro_stream.contracts import SAMPLE_RATE, ReplyOptions, seconds
from textpro_stream.events import (
    SpeechStarted,
    SpeechStopped,
    TurnEnded,
    TurnEndReason,
    WordsCommitted,
)
from textpro_stream.server.fields import Json
from textpro_stream.server.realtime import outgoing
from textpro_stream.server.realtime.codec import milliseconds
from textpro_stream.server.realtime.items import Item
from textpro_stream.server.realtime.replies import Replies
from textpro_stream.server.realtime.state import State

FORGOTTEN: tuple[TurnEndReason, ...] = (
    "no_words",
    "echo",
    "unclear",
    "failed",
)  # turns that the model does not remember


@dataclass(slots=True)
class Turn:
    """A spoken turn that has not ended."""

    started: int  # samples; where it began
    announced: bool = False  # speech_started was sent, or is held
    stopped: int = 0  # samples; where its speech ended
    transcript: str = ""  # as its deltas have it
    n_tokens: int = 0
    held: list[Json] = field(default_factory=list)  # kept until it is clear who goes on


class Turns:
    """All turns that are being spoken.

    Args:
        state: of the session.
        replies: that they may interrupt, and that answer them.
    """

    def __init__(self, state: State, replies: Replies) -> None:
        self._state, self._replies = state, replies
        self._open: dict[int, Turn] = {}
        self._cleared: dict[int, Turn] = {}  # of which something may still be on its way

    @property
    def any(self) -> bool:
        """Somebody is speaking."""
        return bool(self._open)

    def started(self, event: SpeechStarted) -> None:
        """Somebody speaks: told at once, unless it may be a cough beside a reply."""
        for stale in [n for n in self._open if n < event.turn]:  # cleared, and told of too late
            del self._open[stale]
        turn = self._open.setdefault(event.turn, Turn(event.speech))
        detection = self._state.detection
        self._state.idle_from = None
        if detection is None or turn.announced:
            return
        turn.announced = True
        started = outgoing.speech_started(self._id(event.turn), milliseconds(event.speech))
        if detection["interrupt_response"] and self._replies.heard:
            turn.held.append(started)
        else:
            self._state.send(started)

    def words(self, event: WordsCommitted) -> None:
        """`WordsCommitted`: a delta of the transcription."""
        if event.turn in self._cleared:
            return
        turn = self._open.setdefault(event.turn, Turn(event.spans[0].start))
        turn.n_tokens += sum(len(span.ids) for span in event.spans)
        text = event.text if turn.transcript else event.text.lstrip()
        turn.transcript += text
        if self._state.transcribes and text:
            delta = outgoing.transcription("delta", self._id(event.turn), delta=text)
            if turn.held:
                turn.held.append(delta)
            else:
                self._state.send(delta)

    def stopped(self, event: SpeechStopped) -> None:
        """Silence; told when the turn ends there."""
        if event.turn in self._open:
            self._open[event.turn].stopped = event.speech

    def release(self) -> None:
        """It is clear who goes on: tell what was held."""
        for turn in self._open.values():
            held, turn.held = turn.held, []
            self._state.send(*held)

    def clear(self) -> None:
        """What is being said was nothing."""
        self._cleared = dict(self._open)
        self._open.clear()

    def ended(self, event: TurnEnded) -> None:
        """A turn becomes an item, and is answered if it is to be."""
        unknown = Turn(int(self._state.boundary), stopped=event.at)
        # One that was committed before the buffer was cleared ends all the same.
        turn = self._open.pop(event.turn, self._cleared.get(event.turn, unknown))
        self._state.send(*turn.held)
        if event.reason == "typed":
            part = {"type": "input_text", "text": event.transcript}
            value = outgoing.spoken_item(self._id(event.turn), None) | {"content": [part]}
            self._join(Item(value, memory=f"u{event.turn}"))
        else:
            self._spoken(event, turn)
        if event.replies:
            self._replies.due(event.turn, turn.n_tokens)

    def check_idle(self) -> None:
        """Follow up where nobody has spoken for long after a reply."""
        state = self._state
        detection = state.detection
        timeout_ms = detection.get("idle_timeout_ms") if detection else None
        if timeout_ms is None or state.idle_from is None or self._open or self._replies.busy:
            return
        if state.position - state.idle_from < timeout_ms * SAMPLE_RATE / 1000:
            return
        name = state.items.named(f"idle{state.new_item_number()}")
        start_ms, end_ms = milliseconds(int(state.idle_from)), milliseconds(int(state.position))
        state.idle_from = None
        state.send(outgoing.timeout_triggered(name, start_ms, end_ms))
        state.send(outgoing.committed(name, state.items.last_id()))
        self._join(Item(outgoing.spoken_item(name, "")))
        if detection and detection["create_response"] and state.replies:
            self._replies.ask(state.session, {}, ReplyOptions())

    def _spoken(self, event: TurnEnded, turn: Turn) -> None:
        state, name = self._state, self._id(event.turn)
        transcript = event.transcript.strip()
        if turn.announced:
            at_ms = milliseconds(turn.stopped or event.at)
            state.send(outgoing.speech_stopped(name, at_ms))
        state.boundary = max(state.boundary, event.at)
        state.send(outgoing.committed(name, state.items.last_id()))
        kept = event.reason not in FORGOTTEN and transcript
        value = outgoing.spoken_item(name, transcript if state.transcribes else None)
        self._join(Item(value, memory=f"u{event.turn}" if kept else None))
        if not state.transcribes:
            return
        if event.reason == "failed":
            failure = self._replies.failures.get(event.turn)
            message = failure.message if failure else "the recognizer failed"
            error = outgoing.server_error("asr", message)
            state.send(outgoing.transcription("failed", name, error=error))
            return
        if transcript.startswith(turn.transcript) and transcript != turn.transcript:
            rest = transcript.removeprefix(turn.transcript)
            state.send(outgoing.transcription("delta", name, delta=rest))
        duration_s = round(seconds(max(0, event.at - turn.started)), 3)
        usage = {"type": "duration", "seconds": duration_s}
        state.send(outgoing.transcription("completed", name, transcript=transcript, usage=usage))

    def _join(self, item: Item) -> None:
        previous = self._state.items.add(item)
        early = deepcopy(item.value)
        for part in early["content"]:
            if part["type"] == "input_audio":
                part["transcript"] = None
        self._state.send(outgoing.item_added(early, previous))
        self._state.send(outgoing.item_done(deepcopy(item.value), previous))

    def _id(self, turn: int) -> str:
        """Of the item that a spoken turn becomes."""
        return self._state.items.named(f"u{turn}")
