"""Holds every server event to the types of the `openai` package, and their order to the protocol.

The package itself never validates: whatever it is sent, it constructs. We do.
"""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any, get_args

from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

Json = dict[str, Any]


def _models() -> dict[str, TypeAdapter[Any]]:
    union = get_args(RealtimeServerEvent)[0]
    models: list[type[BaseModel]] = list(get_args(union))
    return {get_args(m.model_fields["type"].annotation)[0]: TypeAdapter(m) for m in models}


MODELS = _models()


class Strict:
    """Everything that one connection was sent."""

    def __init__(self, *, extended: bool = False) -> None:
        self.events: list[Json] = []
        self._extended = extended
        self._ids: set[str] = set()
        self._responses: dict[str, str] = {}  # id -> open | done
        self._own: str | None = None  # the open response of the conversation
        self._items: dict[str, str] = {}  # conversation items: added | done | deleted
        self._outputs: dict[tuple[str, int], Json] = {}  # the open ones
        self._parts: dict[tuple[str, int], Counter[str]] = {}
        self._text: dict[tuple[str, int], str] = {}
        self._said: dict[str, list[str]] = {}  # by item of the user: steps

    def __call__(self, event: Json) -> Json:
        """Check one more event."""
        self.events.append(event)
        kind = event["type"]
        assert event["event_id"] not in self._ids, "event_id twice"
        self._ids.add(event["event_id"])
        if len(self.events) == 1:
            assert kind == "session.created"
        if kind.startswith("textpro."):
            assert self._extended, f"{kind} to a client that did not ask for it"
            return event
        MODELS[kind].validate_python(event, strict=True)
        match kind.split("."):
            case ["response", "created" | "done"]:
                self._response(kind, event["response"])
            case ["response", *_]:
                self._inside(kind, event)
            case ["conversation", "item", *_]:
                self._item(kind, event)
            case ["input_audio_buffer", step]:
                self._buffer(step, event)
            case _:
                pass
        return event

    def all(self, events: list[Json]) -> list[Json]:
        return [self(event) for event in events]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def id(self, name: str) -> str:
        """Of what the server named so in this session: u1 is the first spoken turn."""
        session: str = self.events[0]["session"]["id"]
        return f"item_{name}_{session.removeprefix('sess_')[:12]}"

    def settled(self) -> None:
        """Nothing is left open."""
        assert self._own is None
        assert not self._outputs
        assert not self._parts
        assert set(self._responses.values()) <= {"done"}
        assert "added" not in self._items.values()

    def audio(self, item_id: str) -> bytes:
        deltas = (
            e["delta"]
            for e in self.events
            if e["type"] == "response.output_audio.delta" and e["item_id"] == item_id
        )
        return b"".join(base64.b64decode(delta, validate=True) for delta in deltas)

    def _response(self, kind: str, response: Json) -> None:
        name = response["id"]
        if kind == "response.created":
            assert name not in self._responses
            assert response["status"] == "in_progress"
            self._responses[name] = "open"
            if response["conversation_id"] is not None:
                assert self._own is None, "two responses of one conversation"
                self._own = name
            return
        assert self._responses[name] == "open", "response.done twice, or of nothing"
        assert response["status"] != "in_progress"
        assert response["status_details"]["type"] == response["status"]
        assert not [key for key in self._outputs if key[0] == name], "an item was left open"
        for item in response["output"]:
            assert item["status"] != "in_progress"
        self._responses[name] = "done"
        if self._own == name:
            self._own = None

    def _inside(self, kind: str, event: Json) -> None:
        name, index = event["response_id"], event["output_index"]
        assert self._responses[name] == "open", f"{kind} after response.done"
        key = (name, index)
        step = kind.removeprefix("response.")
        if step == "output_item.added":
            assert key not in self._outputs
            self._outputs[key] = event["item"]
        elif step == "output_item.done":
            assert key not in self._parts, "a part was left open"
            assert self._outputs.pop(key)["id"] == event["item"]["id"]
            if event["item"]["type"] == "message":
                (part,) = event["item"]["content"]
                assert part.get("text", part.get("transcript")) == self._text[key]
        elif step == "content_part.added":
            assert key not in self._parts
            self._parts[key], self._text[key] = Counter(), ""
        elif step == "content_part.done":
            seen = self._parts.pop(key)
            expected = {"output_text.done"}
            if event["part"]["type"] == "audio":
                expected = {"output_audio.done", "output_audio_transcript.done"}
            assert {k for k in seen if k.endswith("done")} == expected
            assert set(seen.values()) == {1}
        elif step.startswith("function_call_arguments"):
            assert self._outputs[key]["type"] == "function_call"
        else:
            what = step.rpartition(".")[0]
            seen = self._parts[key]
            assert self._outputs[key]["id"] == event["item_id"]
            assert not seen[f"{what}.done"], f"{kind} after {what}.done"
            if step.endswith(".done"):
                seen[step] += 1
                if what != "output_audio":
                    assert event.get("text", event.get("transcript")) == self._text[key]
            elif what != "output_audio":
                self._text[key] += event["delta"]
            else:
                assert event["delta"]

    def _item(self, kind: str, event: Json) -> None:
        step = kind.removeprefix("conversation.item.")
        if step in ("added", "done"):
            name = event["item"]["id"]
            before = self._items.get(name)  # a client may use the id of an item it deleted again
            assert before in {"added": (None, "deleted"), "done": ("added",)}[step]
            self._items[name] = step
            previous = event["previous_item_id"]
            assert previous is None or previous in self._items
        elif step == "deleted":
            assert self._items[event["item_id"]] == "done"
            self._items[event["item_id"]] = "deleted"
        elif step == "truncated":
            assert self._items[event["item_id"]] == "done"
        elif step.startswith("input_audio_transcription"):
            steps = self._said.setdefault(event["item_id"], [])
            assert not set(steps) & {"completed", "failed"}, "a transcript went on after its end"
            steps.append(step.rpartition(".")[2])

    def _buffer(self, step: str, event: Json) -> None:
        if step not in ("speech_started", "speech_stopped", "committed"):
            return
        steps = self._said.setdefault(event["item_id"], [])
        assert step not in steps
        assert "committed" not in steps
        if step == "speech_stopped":
            assert "speech_started" in steps
        if step == "committed" and "speech_started" in steps:
            assert "speech_stopped" in steps
        steps.append(step)
