"""One response: what it has opened, and how it is closed.

Whatever happens to it, every item and part that was opened is closed once, and its
`response.done` comes last.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

from textpro_stream.contracts import SpokenChunk, ToolCall
from textpro_stream.server.fields import Json
from textpro_stream.server.realtime.codec import Encoder
from textpro_stream.server.realtime.items import Item, Items, SentReply
from textpro_stream.server.realtime.outgoing import item_added, item_done, with_ours

ResponseStatus = Literal["in_progress", "completed", "cancelled", "incomplete", "failed"]
StatusReason = Literal["turn_detected", "client_cancelled", "max_output_tokens"]
ItemStatus = Literal["completed", "incomplete"]

REASONS: set[ResponseStatus] = {"cancelled", "incomplete"}  # statuses that have a reason


@dataclass(slots=True)
class Usage:
    """What is counted: tokens of the recognizer in, pieces of the LLM out, seconds of audio."""

    heard_tokens: int = 0  # of the spoken turn that is answered
    written_tokens: int = 0

    def json(self) -> Json:
        """As the protocol has it. How many rows of memory were read again is not known here."""
        return {
            "input_tokens": self.heard_tokens,
            "output_tokens": self.written_tokens,
            "total_tokens": self.heard_tokens + self.written_tokens,
            "input_token_details": {
                "audio_tokens": self.heard_tokens,
                "text_tokens": 0,
                "cached_tokens": 0,
            },
            "output_token_details": {"audio_tokens": 0, "text_tokens": self.written_tokens},
        }


@dataclass(slots=True, eq=False)
class Response:
    """A reply on its way to the client.

    Args:
        id: of the response.
        settings: the session's, as this response wants them.
        items: the conversation that its items join; None: none.
        conversation_id: likewise.
        metadata: the client's.
        turn: by which the conversation knows it, once that is known.
    """

    id: str
    settings: Json
    items: Items | None
    conversation_id: str | None
    metadata: dict[str, str]
    name_item: Callable[[str], str]
    turn: int | None = None
    status: ResponseStatus = "in_progress"
    begun: bool = False  # the conversation has said something of it
    usage: Usage = field(default_factory=Usage)
    warning: str = ""  # what the client has to know of it, though it is no failure
    _output: list[Item] = field(default_factory=list)
    _previous: str | None = None  # the item before the open one
    _message: Item | None = None  # the open one
    _encoder: Encoder | None = None

    @property
    def live(self) -> bool:
        """Its `response.done` has not been sent."""
        return self.status == "in_progress"

    @property
    def speaks(self) -> bool:
        """It has sound."""
        return bool(self.settings["output_modalities"] == ["audio"])

    def created(self) -> Json:
        """`response.created`."""
        return {"type": "response.created", "response": self.json()}

    def text(self, piece: str) -> list[Json]:
        """Text: a delta, and before the first one the item that it is of."""
        events = self._open()
        assert self._message is not None
        assert self._message.spoken is not None
        self._message.spoken.text += piece
        self.usage.written_tokens += 1
        kind = "response.output_audio_transcript" if self.speaks else "response.output_text"
        return [*events, self._of_part(f"{kind}.delta", delta=piece)]

    def audio(self, chunk: SpokenChunk) -> list[Json]:
        """Audio: the deltas that it fills."""
        if not self.speaks:
            return []
        events = self._open()
        assert self._message is not None
        assert self._message.spoken is not None
        self._message.spoken.add(chunk)
        if self._encoder is None:
            kind = self.settings["audio"]["output"]["format"]["type"]
            self._encoder = Encoder(kind, chunk.rate_hz)
        return events + self._audio(self._encoder.push(chunk.samples))

    def call(self, call: ToolCall) -> list[Json]:
        """The model asks for a function."""
        events = self._close("completed")
        index = len(self._output)
        item_id = self._item_id()
        call_id = item_id.replace("item", "call", 1)
        value: Json = {
            "id": item_id,
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "name": call.name,
            "arguments": "",
            "call_id": call_id,
        }
        item = Item(value, memory=None if index else f"a{self.turn}")
        where = {"item_id": item_id, "output_index": index, "call_id": call_id}
        events += self._added(item)
        said = {"type": "response.function_call_arguments.delta", "delta": call.arguments}
        done = {
            "type": "response.function_call_arguments.done",
            "arguments": call.arguments,
            "name": call.name,
        }
        events += [event | where | {"response_id": self.id} for event in (said, done)]
        value["arguments"] = call.arguments
        return events + self._done(item, "completed")

    def end(
        self,
        status: ResponseStatus,
        reason: StatusReason | None = None,
        error: Json | None = None,
        marks: dict[str, float] | None = None,
    ) -> list[Json]:
        """Close everything; nothing comes after this.

        Args:
            status: any but `in_progress`.
            reason: of `cancelled` and `incomplete`.
            error: {type, code, message} of a failure.
            marks: where the turn's time went.
        """
        events: list[Json] = []
        whole = status in ("completed", "incomplete")
        if whole and self._message is not None and self._encoder is not None:
            events += self._audio(self._encoder.finish())
        events += self._close("completed" if status == "completed" else "incomplete")
        self.status = status
        self.metadata = with_ours(self.metadata, marks or {}, self.warning)
        details: Json = {"type": status}
        if reason is not None and status in REASONS:
            details["reason"] = reason
        if error is not None:
            details["error"] = error
        response = self.json() | {"status_details": details, "usage": self.usage.json()}
        done: Json = {"type": "response.done", "response": response}
        return [*events, done, {"type": "rate_limits.updated", "rate_limits": []}]

    def json(self) -> Json:
        """The response as it is now."""
        output = self.settings["audio"]["output"]
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": None,
            "output": [deepcopy(item.value) for item in self._output],
            "conversation_id": self.conversation_id,
            "output_modalities": list(self.settings["output_modalities"]),
            "max_output_tokens": self.settings["max_output_tokens"],
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "usage": None,
            "metadata": dict(self.metadata) or None,
        }

    def _item_id(self) -> str:
        nth = f"_{len(self._output)}" if self._output else ""
        return self.name_item(f"a{self.turn}{nth}")

    def _open(self) -> list[Json]:
        if self._message is not None:
            return []
        value: Json = {
            "id": self._item_id(),
            "object": "realtime.item",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        memory = f"a{self.turn}" if not self._output else None
        self._message = item = Item(value, memory=memory, spoken=SentReply())
        events = self._added(item)
        part = {"type": "audio", "transcript": ""} if self.speaks else {"type": "text", "text": ""}
        return [*events, self._of_part("response.content_part.added", part=part)]

    def _added(self, item: Item) -> list[Json]:
        index = len(self._output)
        self._output.append(item)
        events = [self._of_item("response.output_item.added", item, index)]
        if self.items is not None:
            self._previous = self.items.add(item)
            events.append(item_added(deepcopy(item.value), self._previous))
        return events

    def _close(self, status: ItemStatus) -> list[Json]:
        if (item := self._message) is None:
            return []
        assert item.spoken is not None
        text = item.spoken.text
        if self.speaks:
            item.value["content"] = [{"type": "output_audio", "transcript": text}]
            part = {"type": "audio", "transcript": text}
            events = [
                self._of_part("response.output_audio.done"),
                self._of_part("response.output_audio_transcript.done", transcript=text),
            ]
        else:
            item.value["content"] = [{"type": "output_text", "text": text}]
            part = {"type": "text", "text": text}
            events = [self._of_part("response.output_text.done", text=text)]
        events.append(self._of_part("response.content_part.done", part=part))
        self._message = None
        return events + self._done(item, status)

    def _done(self, item: Item, status: ItemStatus) -> list[Json]:
        item.value["status"] = status
        index = self._output.index(item)
        events = []
        if self.items is not None:
            events.append(item_done(deepcopy(item.value), self._previous))
        return [*events, self._of_item("response.output_item.done", item, index)]

    def _audio(self, pieces: Sequence[bytes]) -> list[Json]:
        deltas = (base64.b64encode(piece).decode("ascii") for piece in pieces)
        return [self._of_part("response.output_audio.delta", delta=delta) for delta in deltas]

    def _of_part(self, kind: str, **fields: object) -> Json:
        item_id = self._message.id if self._message is not None else ""
        return {
            "type": kind,
            "response_id": self.id,
            "item_id": item_id,
            "output_index": len(self._output) - 1,
            "content_index": 0,
            **fields,
        }

    def _of_item(self, kind: str, item: Item, index: int) -> Json:
        return {
            "type": kind,
            "response_id": self.id,
            "output_index": index,
            "item": deepcopy(item.value),
        }
