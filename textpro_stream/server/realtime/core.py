"""The protocol without any I/O: messages and conversation events in, server events, orders out.

Turns of the conversation and responses of the protocol are not the same: a response is live from
`response.created` to `response.done`, and only one of the conversation's own at a time. It may be
over here while the conversation still stops it, or while its audio is still playing.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from textpro_stream.contracts import SAMPLE_RATE, Message, ReplyOptions, seconds
from textpro_stream.events import (
    Event,
    Failed,
    Finished,
    ReplyAudio,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    ToolCalled,
    TurnEnded,
    TurnLatency,
    WordsCommitted,
)
from textpro_stream.server.realtime import outgoing
from textpro_stream.server.realtime import session as sessions
from textpro_stream.server.realtime.codec import Decoder, duration_ms, milliseconds
from textpro_stream.server.realtime.incoming import Fields, Json, Refused, event_id_of, parse
from textpro_stream.server.realtime.items import MAX_ITEMS, Item, Items, message_of, read_item
from textpro_stream.server.realtime.orders import (
    Add,
    Clear,
    Configure,
    Drop,
    Hear,
    Order,
    Press,
    Release,
    Remove,
    Respond,
    Stop,
    Truncate,
)
from textpro_stream.server.realtime.response import Response
from textpro_stream.wire import to_json

log = logging.getLogger(__name__)

MIN_COMMIT_MS = 100
MAX_WAITING = 256  # events behind a commit
MAX_METADATA_KEY = 64  # characters
# What a commit has to come before: it makes an item, and these read or change the items.
BEHIND_COMMITS = {
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.delete",
    "conversation.item.truncate",
    "response.create",
}


@dataclass(slots=True)
class Output:
    """What is to be done now."""

    events: list[Json] = field(default_factory=list)  # for the client
    orders: list[Order] = field(default_factory=list)  # for the conversation
    refused: bool = False  # the client event was a mistake
    over: str | None = None  # the conversation has ended, for this reason


@dataclass(slots=True)
class _Turn:
    """A spoken turn that has not ended."""

    started: int  # samples; where it began
    announced: bool = False  # speech_started was sent
    stopped: int = 0  # samples; where its speech ended
    transcript: str = ""  # sent as deltas so far
    held: list[Json] = field(default_factory=list)  # kept until it is clear who goes on
    n_tokens: int = 0


class Core:
    """One session's state.

    Args:
        offer: what the server has.
        session_id: unique.
        transcription: no replies, ever.
        expires_at: Unix time at which the session ends.
        extended: our own events too, without being asked by `session.update`.
    """

    def __init__(
        self,
        offer: sessions.Offer,
        session_id: str,
        *,
        transcription: bool = False,
        expires_at: int = 0,
        extended: bool = False,
    ) -> None:
        self._offer = offer
        self.session = sessions.opened(
            offer, session_id, transcription=transcription, expires_at=expires_at
        )
        self.session["textpro"]["events"] = extended
        self.items = Items()
        self._conversation_id = session_id.replace("sess", "conv", 1)
        self._settings: Json = {}  # that the conversation knows of
        self._decoder = Decoder(self._input_kind)
        self._position = 0.0  # 16 kHz samples appended, the decoder's delay included
        self._boundary = 0.0  # position of the last commit, clear or end of a turn
        self._spoke = False
        self._pressed = False
        self._commits_due = 0
        self._behind: deque[Json] = deque()
        self._turns: dict[int, _Turn] = {}
        self._failures: dict[int, Failed] = {}
        self._active: Response | None = None  # of the conversation's own
        self._replies: dict[int, Response] = {}  # by turn, until the conversation is through
        self._unbound: deque[Response] = deque()  # asked for; their turns are not known yet
        self._due: deque[tuple[int, int]] = deque()  # turns that are answered next, their tokens
        self._playing: int | None = None  # the turn whose reply is being heard
        self._idle_from: float | None = None
        self._n_events = self._n_items = self._n_responses = 0
        self._out = Output()
        self._wall_s = 0.0

    def start(self) -> Output:
        """The session begins."""
        self._send({"type": "session.created", "session": deepcopy(self.session)})
        self._configure()
        return self._take()

    def complain(self, refused: Refused) -> Output:
        """Tell the client of a mistake that lies outside of its messages."""
        self._refuse(refused, None)
        return self._take()

    # From the client

    def receive(self, message: str | bytes, wall_s: float = 0.0) -> Output:
        """One message of the client.

        Args:
            message: text, or binary audio of a client that opted in.
            wall_s: seconds since the session began.
        """
        self._wall_s = wall_s
        event_id: str | None = None
        try:
            if isinstance(message, bytes):
                self._append(self._binary(message))
            else:
                event = parse(message)
                event_id = event_id_of(event)
                self._handle(event)
        except Refused as refused:
            self._refuse(refused, event_id)
        return self._take()

    def _handle(self, event: Json) -> None:
        fields = Fields(event)
        kind = fields.string("type")
        handler = self._handlers.get(kind)
        if handler is None or (kind.startswith("textpro.") and not self._extended):
            raise Refused("unknown_event", f"{kind[:80]!r} is no event of this protocol", "type")
        if self._commits_due and kind in BEHIND_COMMITS:
            if len(self._behind) >= MAX_WAITING:
                raise Refused("rate_limited", "too many events wait for a commit")
            self._behind.append(event)
            return
        handler(self, fields)

    def _catch_up(self) -> None:
        """Handle what waited for a commit."""
        while self._behind and not self._commits_due:
            event = self._behind.popleft()
            try:
                self._handle(event)
            except Refused as refused:
                self._refuse(refused, event.get("event_id"))

    def _refuse(self, refused: Refused, event_id: str | None) -> None:
        self._send(outgoing.error(refused, event_id))
        self._out.refused = True

    def _session_update(self, fields: Fields) -> None:
        session = sessions.updated(
            self.session,
            fields.mapping("session").values,
            self._offer,
            heard_audio=self._position > 0,
            spoke=self._spoke,
        )
        self.session = session
        if self._decoder.kind != self._input_kind:
            self._decoder = Decoder(self._input_kind)
        self._send({"type": "session.updated", "session": deepcopy(session)})
        self._configure()

    def _append_event(self, fields: Fields) -> None:
        self._append(fields.audio("audio"))

    def _binary(self, data: bytes) -> bytes:
        if not self._extended:
            raise Refused("invalid_value", "send audio as input_audio_buffer.append, in base64")
        return data

    def _append(self, data: bytes) -> None:
        if self._manual and not self._pressed:
            self._pressed = True
            self._order(Press())
        self._hear(self._decoder.push(data))
        self._position += duration_ms(self._input_kind, len(data)) * SAMPLE_RATE / 1000
        self._check_idle()

    def _commit(self, fields: Fields) -> None:
        if self._position - self._boundary < MIN_COMMIT_MS * SAMPLE_RATE / 1000:
            raise Refused(
                "input_audio_buffer_commit_empty",
                f"append at least {MIN_COMMIT_MS} ms of audio before a commit",
            )
        self._hear(self._decoder.flush())
        self._order(Press())  # harmless where the turn is open; else the commit would be of nothing
        self._order(Release())
        self._commits_due += 1
        self._pressed = False
        self._boundary = self._position

    def _clear(self, fields: Fields) -> None:
        self._hear(self._decoder.flush())
        self._order(Clear())
        self._pressed = False
        self._boundary = self._position
        self._turns.clear()
        self._send({"type": "input_audio_buffer.cleared"})

    def _item_create(self, fields: Fields) -> None:
        if len(self.items) >= MAX_ITEMS:
            raise Refused("invalid_value", f"a session holds {MAX_ITEMS} items")
        after = None
        if fields.has("previous_item_id"):
            after = fields.string("previous_item_id")
            if after != "root":
                self.items.get(after, "previous_item_id")
        item, message = read_item(fields.mapping("item"), self._new_item_id(), self.items)
        previous = self.items.add(item, after)
        self._order(Add(message, self.items.memory_before(item)))
        self._send(outgoing.item_added(deepcopy(item.value), previous))
        self._send(outgoing.item_done(deepcopy(item.value), previous))

    def _item_retrieve(self, fields: Fields) -> None:
        item = self.items.get(fields.string("item_id"))
        self._send({"type": "conversation.item.retrieved", "item": deepcopy(item.value)})

    def _item_delete(self, fields: Fields) -> None:
        item = self._settled(fields)
        self.items.remove(item)
        if item.memory is not None:
            self._order(Remove(item.memory))
        self._send({"type": "conversation.item.deleted", "item_id": item.id})

    def _item_truncate(self, fields: Fields) -> None:
        item = self._settled(fields)
        fields.integer("content_index", 0, 0)
        spoken = item.spoken
        if spoken is None or spoken.sent_ms == 0:
            fields.refuse("item_id", "a reply with audio: nothing else can be truncated")
        end_ms = fields.integer("audio_end_ms", 0, 2**31)
        if end_ms > spoken.sent_ms:
            fields.refuse("audio_end_ms", f"at most {spoken.sent_ms}: no more audio was sent")
        heard = spoken.heard_by(end_ms)
        item.value["content"][0]["transcript"] = heard
        if item.memory is not None:
            self._order(Truncate(item.memory, len(heard)))
        self._send(
            {
                "type": "conversation.item.truncated",
                "item_id": item.id,
                "content_index": 0,
                "audio_end_ms": end_ms,
            }
        )

    def _settled(self, fields: Fields) -> Item:
        item = self.items.get(fields.string("item_id"))
        if item.value.get("status") == "in_progress":
            fields.refuse("item_id", "an item that is complete; cancel its response first")
        return item

    def _response_create(self, fields: Fields) -> None:
        if self.session["type"] == "transcription":
            raise Refused("invalid_value", "a transcription session makes no responses")
        body = fields.mapping("response") if fields.has("response") else Fields({}, "response")
        own = True
        if body.has("conversation"):
            own = body.choice("conversation", ("auto", "none")) == "auto"
        metadata = _metadata(body)
        messages = self._messages(body) if body.has("input") else None
        special = ("conversation", "metadata", "input")
        patch = {key: value for key, value in body.values.items() if key not in special}
        settings = sessions.response_settings(self.session, patch, self._offer, spoke=self._spoke)
        if own and (self._active is not None or self._due):
            raise Refused(
                "conversation_already_has_active_response",
                "a response is being made: cancel it, or wait for its response.done",
            )
        response = self._new_response(settings, metadata, own=own)
        self._unbound.append(response)
        self._send(response.created())
        options = ReplyOptions(
            instructions=settings["instructions"] if "instructions" in patch else None,
            max_tokens=sessions.max_tokens(settings, self._offer.llm),
            voice=response.speaks,
            tools=sessions.tools_of(settings),
            messages=messages,
            remember=own,
        )
        self._order(Respond(response.id, options))

    def _messages(self, body: Fields) -> tuple[Message, ...]:
        messages = []
        for i, each in enumerate(body.list_of("input", most=MAX_ITEMS)):
            if each.values.get("type") == "item_reference":
                item = self.items.get(each.string("id"), each.at("id"))
                messages.append(message_of(item))
                continue
            unnamed = Fields({k: v for k, v in each.values.items() if k != "id"}, each.at("")[:-1])
            messages.append(read_item(unnamed, f"input_{i}", self.items)[1])
        return tuple(messages)

    def _response_cancel(self, fields: Fields) -> None:
        response = self._active
        if fields.has("response_id"):
            wanted = fields.string("response_id")
            known = [*self._replies.values(), *self._unbound]
            response = next((r for r in known if r.id == wanted and r.live), None)
        if response is None and not fields.has("response_id") and self._cancel_waiting():
            return
        if response is None:
            raise Refused("response_cancel_not_active", "no such response is being made")
        self._cancel(response)

    def _cancel_waiting(self) -> bool:
        """A response that still waits for a commit comes to life and ends at once."""
        for event in self._behind:
            if event.get("type") == "response.create":
                self._behind.remove(event)
                response = self._new_response(self.session, {}, own=True)
                self._send(response.created())
                self._end(response, "cancelled", "client_cancelled")
                return True
        return False

    def _cancel(self, response: Response) -> None:
        others = [r for r in (*self._replies.values(), *self._unbound) if r.live]
        self._end(response, "cancelled", "client_cancelled")
        if response.begun or others == [response]:
            self._order(Stop())
        self._order(Drop(response.id))
        self._open_due()

    def _output_clear(self, fields: Fields) -> None:
        raise Refused("invalid_value", "output_audio_buffer.clear is for WebRTC; use truncate")

    def _clock(self, fields: Fields) -> None:
        t0 = fields.values.get("t0")
        if isinstance(t0, bool) or not isinstance(t0, int | float):
            fields.refuse("t0", "a number")
        t1 = round(self._wall_s, 6)
        self._send({"type": "textpro.clock", "t0": t0, "t1": t1, "t2": t1})

    _handlers: dict[str, Callable[[Core, Fields], None]] = {  # noqa: RUF012, never changed
        "session.update": _session_update,
        "input_audio_buffer.append": _append_event,
        "input_audio_buffer.commit": _commit,
        "input_audio_buffer.clear": _clear,
        "conversation.item.create": _item_create,
        "conversation.item.retrieve": _item_retrieve,
        "conversation.item.delete": _item_delete,
        "conversation.item.truncate": _item_truncate,
        "response.create": _response_create,
        "response.cancel": _response_cancel,
        "output_audio_buffer.clear": _output_clear,
        "textpro.clock": _clock,
    }

    # From the conversation

    def hear(self, event: Event, wall_s: float = 0.0) -> Output:
        """One event of the conversation."""
        self._wall_s = wall_s
        if self._extended and not isinstance(event, ReplyAudio):
            ours = to_json(event, source="realtime", wall_s=wall_s)
            self._send({"type": "textpro.event", "event": ours})
        match event:
            case SpeechStarted():
                self._speech_started(event)
            case SpeechStopped(turn=turn, speech=speech) if turn in self._turns:
                self._turns[turn].stopped = speech
            case WordsCommitted():
                self._words(event)
            case TurnEnded():
                self._turn_ended(event)
            case ReplyStarted() | ReplyText() | ReplyAudio() | ToolCalled():
                self._reply(event)
            case ReplyGiven():
                self._reply_given(event)
            case ReplyEnded():
                self._reply_ended(event)
            case TurnLatency(turn=turn):
                self._replies.pop(turn, None)
                self._failures.pop(turn, None)
            case Failed(turn=turn):
                log.info("turn %d: %s: %s", turn, event.code, event.message)
                self._failures[turn] = event
                if event.code == "voice" and (response := self._replies.get(turn)):
                    response.warning = event.message
            case Finished():
                self._finished()
            case _:
                pass
        return self._take()

    def bound(self, response_id: str, turn: int) -> Output:
        """A reply that was ordered goes by this turn."""
        response = next((r for r in self._unbound if r.id == response_id), None)
        if response is not None:
            self._unbound.remove(response)
            self._bind(response, turn)
            if not response.live:
                self._order(Stop())
        return self._take()

    def wanted(self, response_id: str) -> bool:
        """A reply that was ordered is still to be made; if not, it is forgotten."""
        response = next((r for r in self._unbound if r.id == response_id), None)
        if response is not None and not response.live:
            self._unbound.remove(response)
            return False
        return response is not None

    def failed(self, order: Order, message: str) -> Output:
        """The conversation could not carry out an order."""
        match order:
            case Respond(response_id=response_id):
                response = next((r for r in self._unbound if r.id == response_id), None)
                if response is not None:
                    self._unbound.remove(response)
                    if response.live:
                        self._end(response, "failed", error=_server_error("llm", message))
                        self._open_due()
            case Remove() | Truncate():
                # The model remembered nothing of it, as of a reply that nobody heard.
                log.info("nothing to change in memory: %s", message)
            case _:
                refused = Refused("not_remembered", message)
                self._send(outgoing.error(refused, None, "server_error"))
        return self._take()

    def _speech_started(self, event: SpeechStarted) -> None:
        turn = self._turns.setdefault(event.turn, _Turn(event.speech))
        self._idle_from = None
        if self._detection is None or turn.announced:
            return
        turn.announced = True
        at_ms = milliseconds(event.speech)
        started = outgoing.speech_started(_item_id(event.turn), at_ms)
        if self._detection["interrupt_response"] and self._is_heard:
            turn.held.append(started)  # until it is clear that this is no cough
        else:
            self._send(started)

    @property
    def _is_heard(self) -> bool:
        """A reply is being heard."""
        active = self._active
        return self._playing is not None or (active is not None and active.begun)

    def _words(self, event: WordsCommitted) -> None:
        turn = self._turns.setdefault(event.turn, _Turn(event.spans[0].start))
        turn.n_tokens += sum(len(span.ids) for span in event.spans)
        text = event.text if turn.transcript else event.text.lstrip()
        turn.transcript += text
        if self._transcribes and text:
            delta = outgoing.transcription("delta", _item_id(event.turn), delta=text)
            if turn.held:
                turn.held.append(delta)
            else:
                self._send(delta)

    def _release_held(self) -> None:
        for turn in self._turns.values():
            held, turn.held = turn.held, []
            for event in held:
                self._send(event)

    def _turn_ended(self, event: TurnEnded) -> None:
        turn = self._turns.get(event.turn, _Turn(int(self._boundary), stopped=event.at))
        for each in turn.held:
            self._send(each)
        self._turns.pop(event.turn, None)
        item_id = _item_id(event.turn)
        if event.reason == "typed":
            part = {"type": "input_text", "text": event.transcript}
            value = outgoing.spoken_item(item_id, None) | {"content": [part]}
            self._join(Item(value, memory=f"u{event.turn}"))
        else:
            self._spoken_turn(event, turn, item_id)
        if event.replies:
            self._due.append((event.turn, turn.n_tokens))
            self._open_due()
        if self._commits_due and event.reason != "typed":
            self._commits_due -= 1
        self._catch_up()

    def _spoken_turn(self, event: TurnEnded, turn: _Turn, item_id: str) -> None:
        if turn.announced:
            at_ms = milliseconds(turn.stopped or event.at)
            self._send(outgoing.speech_stopped(item_id, at_ms))
        self._boundary = max(self._boundary, event.at)
        self._send(outgoing.committed(item_id, self.items.last_id()))
        # What held no words, or our own, the model does not remember either.
        kept = event.reason not in ("no_words", "echo", "failed") and event.transcript.strip()
        transcript = event.transcript if self._transcribes else None
        value = outgoing.spoken_item(item_id, transcript)
        self._join(Item(value, memory=f"u{event.turn}" if kept else None))
        if not self._transcribes:
            return
        if event.reason == "failed":
            failure = self._failures.get(event.turn)
            message = failure.message if failure else "the recognizer failed"
            error = _server_error("asr", message)
            self._send(outgoing.transcription("failed", item_id, error=error))
            return
        rest = event.transcript.removeprefix(turn.transcript)
        if rest and event.transcript.startswith(turn.transcript):
            self._send(outgoing.transcription("delta", item_id, delta=rest))
        usage = {
            "type": "duration",
            "seconds": round(seconds(max(0, event.at - turn.started)), 3),
        }
        self._send(
            outgoing.transcription("completed", item_id, transcript=event.transcript, usage=usage)
        )

    def _join(self, item: Item) -> None:
        previous = self.items.add(item)
        value = deepcopy(item.value)
        early = deepcopy(value)
        for part in early["content"]:
            if part["type"] == "input_audio":
                part["transcript"] = None
        self._send(outgoing.item_added(early, previous))
        self._send(outgoing.item_done(value, previous))

    def _open_due(self) -> None:
        """The next turn that is answered by itself, if nothing is being answered."""
        if self._due and self._active is None:
            turn, n_tokens = self._due.popleft()
            response = self._new_response(self.session, {}, own=True)
            response.usage.heard_tokens = n_tokens
            self._bind(response, turn)
            self._send(response.created())

    def _reply(self, event: ReplyStarted | ReplyText | ReplyAudio | ToolCalled) -> None:
        response = self._reply_of(event.turn)
        first, response.begun = not response.begun, True
        if not response.live:
            if first:  # it was cancelled before there was anything to stop
                self._order(Stop())
            return
        match event:
            case ReplyText(text=text):
                self._send_all(response.text(text))
            case ReplyAudio(chunk=chunk):
                if response.speaks:
                    self._spoke = True
                    self._playing = event.turn
                self._send_all(response.audio(chunk))
            case ToolCalled(call=call):
                self._send_all(response.call(call))
            case ReplyStarted():
                pass

    def _reply_of(self, turn: int) -> Response:
        """The response of a turn; what nobody here asked for (an announcement) gets one."""
        if (response := self._replies.get(turn)) is not None:
            return response
        while turn not in self._replies and any(due == turn for due, _ in self._due):
            if self._active is not None:  # it has ended without saying so
                self._end(self._active, "completed")
            self._open_due()
        if turn in self._replies:
            return self._replies[turn]
        if self._unbound:
            response = self._unbound.popleft()
            self._bind(response, turn)
            return response
        own = self._active is None
        response = self._new_response(self.session, {}, own=own)
        self._bind(response, turn)
        self._send(response.created())
        return response

    def _reply_given(self, event: ReplyGiven) -> None:
        response = self._reply_of(event.turn)
        response.begun = True
        if response.live:
            whole = event.reason != "length"
            status, reason = ("completed", None) if whole else ("incomplete", "max_output_tokens")
            self._end(response, status, reason, marks=event.marks)
            self._open_due()

    def _reply_ended(self, event: ReplyEnded) -> None:
        response = self._replies.get(event.turn)
        if response is None and event.reason == "failed":  # before anything of it came
            response = self._reply_of(event.turn)
        if self._playing == event.turn:
            self._playing = None
        if event.reason == "barge_in":
            self._release_held()  # before all else: the client's loudspeaker has to fall silent
        if response is not None and response.live:
            response.begun = True
            match event.reason:
                case "barge_in" | "cancelled":
                    barged = event.reason == "barge_in"
                    why = "turn_detected" if barged else "client_cancelled"
                    self._end(response, "cancelled", why)
                    self._order(Drop(response.id))
                case "failed":
                    failure = self._failures.get(event.turn)
                    message = failure.message if failure else "the language model failed"
                    code = failure.code if failure else "llm"
                    self._end(response, "failed", error=_server_error(code, message))
                case _:
                    self._end(response, "completed")
        self._release_held()
        self._open_due()
        if not self._turns and self._active is None:
            self._idle_from = self._position

    def _finished(self) -> None:
        message = "the conversation ended"
        if self._failures:
            message = list(self._failures.values())[-1].message
        for response in [*self._replies.values(), *self._unbound]:
            if response.live:
                self._end(response, "failed", error=_server_error("stage", message))
        self._out.over = message

    # Own state

    @property
    def _input_kind(self) -> str:
        kind: str = self.session["audio"]["input"]["format"]["type"]
        return kind

    @property
    def _detection(self) -> Json | None:
        return sessions.turn_detection(self.session)

    @property
    def _manual(self) -> bool:
        return self._detection is None

    @property
    def _transcribes(self) -> bool:
        return self.session["audio"]["input"]["transcription"] is not None

    @property
    def _extended(self) -> bool:
        return bool(self.session["textpro"]["events"])

    def _configure(self) -> None:
        """Tell the conversation what is not as it knows it."""
        settings = sessions.conversation_settings(self.session, self._offer)
        changes = {
            key: value
            for key, value in settings.items()
            if key not in self._settings or self._settings[key] != value
        }
        self._settings = settings
        if changes:
            self._order(Configure(changes))

    def _check_idle(self) -> None:
        detection = self._detection
        timeout_ms = detection.get("idle_timeout_ms") if detection else None
        if timeout_ms is None or self._idle_from is None or self._active is not None:
            return
        if self._position - self._idle_from < timeout_ms * SAMPLE_RATE / 1000:
            return
        start, self._idle_from = self._idle_from, None
        self._n_items += 1
        item_id = f"item_idle{self._n_items}"
        start_ms, end_ms = milliseconds(int(start)), milliseconds(int(self._position))
        self._send(outgoing.timeout_triggered(item_id, start_ms, end_ms))
        self._send(outgoing.committed(item_id, self.items.last_id()))
        self._join(Item(outgoing.spoken_item(item_id, "")))
        if detection and detection["create_response"] and self.session["type"] == "realtime":
            response = self._new_response(self.session, {}, own=True)
            self._unbound.append(response)
            self._send(response.created())
            self._order(Respond(response.id, ReplyOptions()))

    def _new_item_id(self) -> str:
        self._n_items += 1
        return f"item_{self._n_items:06d}"

    def _new_response(self, settings: Json, metadata: dict[str, str], *, own: bool) -> Response:
        self._n_responses += 1
        self._idle_from = None
        response = Response(
            f"resp_{self._n_responses:06d}",
            settings,
            self.items if own else None,
            self._conversation_id if own else None,
            metadata,
        )
        if own:
            self._active = response
        return response

    def _bind(self, response: Response, turn: int) -> None:
        response.turn = turn
        self._replies[turn] = response

    def _end(
        self,
        response: Response,
        status: str,
        reason: str | None = None,
        *,
        error: Json | None = None,
        marks: dict[str, float] | None = None,
    ) -> None:
        self._send_all(response.end(status, reason, error, marks))
        if self._active is response:
            self._active = None

    def _hear(self, samples: Any) -> None:
        if len(samples):
            self._order(Hear(samples))

    def _order(self, order: Order) -> None:
        self._out.orders.append(order)

    def _send(self, event: Json) -> None:
        self._n_events += 1
        self._out.events.append({"event_id": f"event_{self._n_events:08d}", **event})

    def _send_all(self, events: list[Json]) -> None:
        for event in events:
            self._send(event)

    def _take(self) -> Output:
        out, self._out = self._out, Output()
        return out


def to_text(event: Json) -> str:
    """A server event as it goes over the wire."""
    return json.dumps(event, ensure_ascii=False, allow_nan=False)


def _item_id(turn: int) -> str:
    return f"item_u{turn}"


def _server_error(code: str, message: str) -> Json:
    return {"type": "server_error", "code": code, "message": message}


def _metadata(body: Fields) -> dict[str, str]:
    if not body.has("metadata"):
        return {}
    metadata = body.mapping("metadata").values
    fits = len(metadata) <= outgoing.MAX_PAIRS and all(
        len(key) <= MAX_METADATA_KEY and isinstance(value, str) and len(value) <= outgoing.MAX_VALUE
        for key, value in metadata.items()
    )
    if not fits:
        body.refuse(
            "metadata",
            f"at most {outgoing.MAX_PAIRS} pairs of strings, keys up to {MAX_METADATA_KEY}"
            f" characters, values up to {outgoing.MAX_VALUE}",
        )
    return dict(metadata)
