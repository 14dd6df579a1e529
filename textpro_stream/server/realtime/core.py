"""The protocol without any I/O: messages and events in; server events and commands out."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable
from copy import deepcopy

from textpro_stream.commands import (
    Add,
    Clear,
    Command,
    Press,
    Release,
    Remove,
    Respond,
    Truncate,
)
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, Message, ReplyOptions
from textpro_stream.events import (
    Event,
    Failed,
    FailureCode,
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
from textpro_stream.server.fields import Fields, Json, Refused, parse
from textpro_stream.server.realtime import outgoing
from textpro_stream.server.realtime import session as sessions
from textpro_stream.server.realtime.codec import Decoder, duration_ms
from textpro_stream.server.realtime.items import MAX_ITEMS, Item, message_of, read_item
from textpro_stream.server.realtime.replies import Replies
from textpro_stream.server.realtime.rules import Offer
from textpro_stream.server.realtime.state import Output, State
from textpro_stream.server.realtime.turns import Turns
from textpro_stream.wire import to_json

log = logging.getLogger(__name__)

MIN_COMMIT_MS = 100
MAX_EVENT_ID = 512  # characters
MAX_WAITING = 256  # events after a commit
MAX_REFUSALS = 8  # told of one update: a client that gets all of it wrong has read enough
MAX_METADATA_KEY = 64  # characters
MAX_CHANGED = 64  # messages cut or deleted; that one was unknown is told soon or never
MODELS: tuple[FailureCode, ...] = (
    "asr",
    "llm",
    "voice",
)  # codes of failures that cost a turn or a reply
# What a commit has to come before: it makes an item, and these read or change the items.
AFTER_COMMITS = {
    "conversation.item.create",
    "conversation.item.retrieve",
    "conversation.item.delete",
    "conversation.item.truncate",
    "response.create",
}


class Core:
    """One session.

    Args:
        offer: what the server has.
        session_id: unique.
        next_turn: the conversation's number of a turn that a command will bring.
        transcription: no replies, ever.
        expires_at: Unix time at which the session ends.
        extended: our own events too, without being asked by `session.update`.
    """

    def __init__(
        self,
        offer: Offer,
        session_id: str,
        next_turn: Callable[[], int],
        *,
        transcription: bool = False,
        expires_at: int = 0,
        extended: bool = False,
    ) -> None:
        session = sessions.opened(
            offer, session_id, transcription=transcription, expires_at=expires_at
        )
        session["textpro"]["events"] = extended
        self._state = state = State(offer, session, next_turn)
        self._replies = Replies(state, session_id.replace("sess", "conv", 1))
        self._turns = Turns(state, self._replies)
        self._decoder = Decoder(state.input_kind)
        self._pressed = False  # a turn that the client will commit has begun
        self._commits_due = 0
        self._waiting: deque[Json] = deque()
        self._changed: deque[str] = deque(maxlen=MAX_CHANGED)  # ids in the model's memory
        self._wall_s = 0.0

    @property
    def recorded(self) -> bool:
        """The client says where turns end: its audio need not be live."""
        return self._state.detection is None

    def start(self) -> Output:
        """The session begins."""
        state = self._state
        state.send({"type": "session.created", "session": deepcopy(state.session)})
        state.configure()
        return state.take()

    def complain(self, refused: Refused) -> Output:
        """Tell the client of a mistake that lies outside of its messages."""
        self._refuse(refused, None)
        return self._state.take()

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
                event = parse(message, echoed=True)
                event_id = _event_id(event)
                self._handle(event)
        except Refused as refused:
            self._refuse(refused, event_id)
        return self._state.take()

    def _handle(self, event: Json) -> None:
        fields = Fields(event)
        kind = fields.string("type")
        handler = self._handlers.get(kind)
        if handler is None or (kind.startswith("textpro.") and not self._state.extended):
            raise Refused("unknown_event", f"{kind[:80]!r} is no event of this protocol", "type")
        if self._commits_due and kind in AFTER_COMMITS:
            if len(self._waiting) >= MAX_WAITING:
                raise Refused("rate_limited", "too many events wait for a commit")
            self._waiting.append(event)
            return
        handler(self, fields)

    def _refuse(self, refused: Refused, event_id: str | None) -> None:
        self._state.send(outgoing.error(refused, event_id))
        self._state.out.refused = True

    def _session_update(self, fields: Fields) -> None:
        state = self._state
        update = sessions.updated(
            state.session,
            fields.mapping("session").values,
            state.offer,
            spoke=state.spoke,
        )
        if update.ignored:
            log.warning("realtime: set, and of no meaning here: %s", ", ".join(update.ignored))
        state.session = update.session
        if state.detection is not None:
            self._pressed = False  # turns end by themselves now
        if self._decoder.kind != state.input_kind:
            state.hear(self._decoder.flush())
            self._decoder = Decoder(state.input_kind)
        for refused in update.refusals[:MAX_REFUSALS]:
            self._refuse(refused, _event_id(fields.values))
        state.send({"type": "session.updated", "session": deepcopy(update.session)})
        state.configure()

    def _append_event(self, fields: Fields) -> None:
        self._append(fields.audio("audio"))

    def _binary(self, data: bytes) -> bytes:
        if not self._state.extended:
            raise Refused("invalid_value", "send audio as input_audio_buffer.append, in base64")
        return data

    def _append(self, data: bytes) -> None:
        if self._state.detection is None and not self._pressed:
            self._pressed = True
            self._press()
        self._state.hear(self._decoder.push(data))
        self._state.position += duration_ms(self._state.input_kind, len(data)) * SAMPLE_RATE / 1000
        self._turns.check_idle()

    def _commit(self, fields: Fields) -> None:
        if self._state.position - self._state.boundary < MIN_COMMIT_MS * SAMPLE_RATE / 1000:
            raise Refused(
                "input_audio_buffer_commit_empty",
                f"append at least {MIN_COMMIT_MS} ms of audio before a commit",
            )
        self._state.hear(self._decoder.flush())
        self._press()  # harmless where the turn is open; else the commit would be of nothing
        self._state.tell(Release())
        self._commits_due += 1
        self._pressed = False
        self._state.boundary = self._state.position

    def _press(self) -> None:
        """Open a turn; it interrupts where speech does."""
        self._state.tell(Press(interrupts=sessions.speech_interrupts(self._state.session)))

    def _clear(self, fields: Fields) -> None:
        self._state.hear(self._decoder.flush())
        self._state.tell(Clear())
        self._pressed = False
        self._state.boundary = self._state.position
        self._turns.clear()
        self._state.send({"type": "input_audio_buffer.cleared"})

    def _item_create(self, fields: Fields) -> None:
        if len(self._state.items) >= MAX_ITEMS:
            raise Refused("invalid_value", f"a session holds {MAX_ITEMS} items")
        after = None
        if fields.has("previous_item_id"):
            after = fields.string("previous_item_id")
            if after != "root":
                self._state.items.get(after, "previous_item_id")
        items = self._state.items
        new_id = items.named(f"{self._state.new_item_number():06d}")
        item, message = read_item(fields.mapping("item"), new_id, items)
        previous = self._state.items.add(item, after)
        self._state.tell(Add(message, self._state.items.memory_before(item)))
        self._state.send(outgoing.item_added(deepcopy(item.value), previous))
        self._state.send(outgoing.item_done(deepcopy(item.value), previous))

    def _item_retrieve(self, fields: Fields) -> None:
        item = self._state.items.get(fields.string("item_id"))
        self._state.send({"type": "conversation.item.retrieved", "item": deepcopy(item.value)})

    def _item_delete(self, fields: Fields) -> None:
        item = self._settled(fields)
        self._state.items.remove(item)
        if item.memory is not None:
            self._changed.append(item.memory)
            self._state.tell(Remove(item.memory))
        self._state.send({"type": "conversation.item.deleted", "item_id": item.id})

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
            self._changed.append(item.memory)
            self._state.tell(Truncate(item.memory, len(heard)))
        self._state.send(
            {
                "type": "conversation.item.truncated",
                "item_id": item.id,
                "content_index": 0,
                "audio_end_ms": end_ms,
            }
        )

    def _settled(self, fields: Fields) -> Item:
        item = self._state.items.get(fields.string("item_id"))
        if item.value.get("status") == "in_progress":
            fields.refuse("item_id", "an item that is complete; cancel its response first")
        return item

    def _response_create(self, fields: Fields) -> None:
        if self._state.session["type"] == "transcription":
            raise Refused("invalid_value", "a transcription session makes no responses")
        body = fields.mapping("response") if fields.has("response") else Fields({}, "response")
        own = True
        if body.has("conversation"):
            own = body.choice("conversation", ("auto", "none")) == "auto"
        metadata = _metadata(body)
        messages = self._messages(body) if body.has("input") else None
        special = ("conversation", "metadata", "input")
        patch = {key: value for key, value in body.values.items() if key not in special}
        settings = sessions.response_settings(
            self._state.session, patch, self._state.offer, spoke=self._state.spoke
        )
        if own and self._replies.busy:
            raise Refused(
                "conversation_already_has_active_response",
                "a response is being made: cancel it, or wait for its response.done",
            )
        options = ReplyOptions(
            instructions=settings["instructions"] if "instructions" in patch else None,
            max_tokens=sessions.max_tokens(settings, self._state.offer.llm),
            voice=settings["output_modalities"] == ["audio"],
            tools=sessions.tools_of(settings),
            messages=messages,
            remember=own,
        )
        self._replies.ask(settings, metadata, options, own=own)

    def _messages(self, body: Fields) -> tuple[Message, ...]:
        messages = []
        for i, each in enumerate(body.list_of("input", most=MAX_ITEMS)):
            if each.values.get("type") == "item_reference":
                item = self._state.items.get(each.string("id"), each.at("id"))
                messages.append(message_of(item))
                continue
            unnamed = Fields({k: v for k, v in each.values.items() if k != "id"}, each.at("")[:-1])
            messages.append(read_item(unnamed, f"input_{i}", self._state.items)[1])
        return tuple(messages)

    def _response_cancel(self, fields: Fields) -> None:
        wanted = fields.string("response_id") if fields.has("response_id") else None
        if wanted is None and self._replies.active is None:
            for event in self._waiting:
                if event.get("type") == "response.create":  # still waits for a commit
                    self._waiting.remove(event)
                    self._replies.cancelled_early()
                    return
        self._replies.cancel(wanted)

    def _output_clear(self, fields: Fields) -> None:
        raise Refused("invalid_value", "output_audio_buffer.clear is for WebRTC; use truncate")

    def _clock(self, fields: Fields) -> None:
        t0 = fields.values.get("t0")
        if isinstance(t0, bool) or not isinstance(t0, int | float):
            fields.refuse("t0", "a number")
        t1 = round(self._wall_s, 6)
        self._state.send({"type": "textpro.clock", "t0": t0, "t1": t1, "t2": t1})

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
        state, turns, replies = self._state, self._turns, self._replies
        if state.extended and not isinstance(event, ReplyAudio):
            ours = to_json(event, source="realtime", wall_s=wall_s)
            state.send({"type": "textpro.event", "event": ours})
        match event:
            case SpeechStarted():
                turns.started(event)
            case SpeechStopped():
                turns.stopped(event)
            case WordsCommitted():
                turns.words(event)
            case TurnEnded():
                self._turn_ended(event)
            case ReplyStarted() | ReplyText() | ReplyAudio() | ToolCalled():
                replies.say(event)
            case ReplyGiven():
                replies.given(event)
            case ReplyEnded():
                turns.release()  # before all else: a client's loudspeaker may have to fall silent
                replies.ended(event)
                if not replies.busy and not turns.any:
                    state.idle_from = state.position
            case TurnLatency(turn=turn):
                replies.forget(turn)
            case Failed():
                self._fail(event)
            case Finished():
                failures = [failure.message for failure in replies.failures.values()]
                state.out.over = failures[-1] if failures else "the conversation ended"
                replies.fail_all(state.out.over)
            case _:
                pass
        return state.take()

    def _fail(self, event: Failed) -> None:
        log.info("turn %d: %s: %s", event.turn, event.code, event.message)
        self._replies.fail(event)
        if event.code in MODELS:
            return  # told by the response or the item that it befell
        if any(repr(memory) in event.message for memory in self._changed):
            return  # the model remembered nothing of it, as of a reply that nobody heard
        refused = Refused(event.code, event.message)
        self._state.send(outgoing.error(refused, None, "server_error"))

    def failed(self, item: AudioChunk | Command, message: str) -> Output:
        """The conversation does not take what it was told."""
        match item:
            case Respond(turn=turn):
                self._replies.not_made(turn, message)
            case Remove() | Truncate():
                # The model remembered nothing of it, as of a reply that nobody heard.
                log.info("nothing to change in memory: %s", message)
            case _:
                refused = Refused("not_remembered", message)
                self._state.send(outgoing.error(refused, None, "server_error"))
        return self._state.take()

    def _turn_ended(self, event: TurnEnded) -> None:
        self._turns.ended(event)
        if self._commits_due and event.reason != "typed":
            self._commits_due -= 1
        while self._waiting and not self._commits_due:
            waiting = self._waiting.popleft()
            try:
                self._handle(waiting)
            except Refused as refused:
                self._refuse(refused, waiting.get("event_id"))


def _event_id(event: Json) -> str | None:
    """The client's own id of an event, for errors to repeat."""
    value = event.get("event_id")
    if value is None or (isinstance(value, str) and len(value) <= MAX_EVENT_ID):
        return value
    raise Refused(
        "invalid_value", f"event_id is a string of at most {MAX_EVENT_ID} characters", "event_id"
    )


def to_text(event: Json) -> str:
    """A server event as it goes over the wire."""
    return json.dumps(event, ensure_ascii=False, allow_nan=False)


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
