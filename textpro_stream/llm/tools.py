"""Function calls in a reply's text: recognised while it streams, never given out as words.

Two forms are known: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, any number of them
(Hermes, Qwen, SmolLM2), and a reply that is one such JSON object and nothing else (Llama 3). What
looks like one and is none is given out as text: nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from textpro_stream.contracts import Tool, ToolCall
from textpro_stream.errors import ConfigError

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class CallSplitter:
    """One reply's text, in pieces of any size: what is to be said, and which calls are in it."""

    def __init__(self) -> None:
        self.calls: list[ToolCall] = []
        self._held = ""  # may yet be markup
        self._gap = ""  # space before OPEN: said only if no call follows
        self._inside = False  # behind OPEN
        self._begun = False  # something other than space came
        self._bare = False  # the reply began with a brace: it may be a call as a whole

    def push(self, text: str) -> str:
        """The text that can be said now."""
        self._held += text
        if not self._begun:
            if not self._held.strip():
                return ""
            self._begun = True
            self._bare = self._held.lstrip().startswith("{")
        if self._bare:
            return ""
        said = ""
        while True:
            mark = CLOSE if self._inside else OPEN
            before, found, after = self._held.partition(mark)
            if not found:
                break
            if self._inside:
                said += self._close(before, CLOSE)
            else:
                said += self._before_mark(before)
            self._held, self._inside = after, not self._inside
        if self._inside:
            return said
        sure = self._held[: len(self._held) - _tail(self._held, OPEN)].rstrip()
        self._held = self._held[len(sure) :]
        return said + sure

    def finish(self) -> str:
        """The reply is over: the rest of what can be said."""
        held, self._held = self._held, ""
        if self._bare:
            call = _parse(held, bare=True)
            if call is None:
                return held
            self.calls.append(call)
            return ""
        if self._inside:  # cut short, or ended without its closing mark
            return self._close(held, "")
        return held if held.strip() or not self.calls else ""

    def _before_mark(self, text: str) -> str:
        words = text.rstrip()
        self._gap = text[len(words) :]
        return words

    def _close(self, inner: str, mark: str) -> str:
        call = _parse(inner)
        if call is None:
            return self._gap + OPEN + inner + mark
        self.calls.append(call)
        return ""


def declared(tools: Sequence[Tool]) -> list[dict[str, object]]:
    """Tools in the form that chat templates expect.

    Raises:
        ConfigError: parameters that are no JSON object.
    """
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": _schema(tool),
            },
        }
        for tool in tools
    ]


def _schema(tool: Tool) -> dict[str, object]:
    try:
        schema = json.loads(tool.parameters or "{}")
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise ConfigError(f"tool {tool.name!r}: its parameters are no JSON object; give a schema")
    return schema


def requested(calls: Sequence[ToolCall]) -> list[dict[str, object]]:
    """Calls in the form that chat templates expect of an assistant's message."""
    return [
        {
            "type": "function",
            "function": {"name": call.name, "arguments": _object(call.arguments)},
        }
        for call in calls
    ]


def written(calls: Sequence[ToolCall]) -> str:
    """Calls as text, for templates that know none."""
    return "\n".join(
        OPEN
        + json.dumps({"name": call.name, "arguments": _object(call.arguments)}, ensure_ascii=False)
        + CLOSE
        for call in calls
    )


def _object(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:  # a client's own: show it to the model as it is
        return text


def _parse(text: str, *, bare: bool = False) -> ToolCall | None:
    """The call that this JSON is; without markup around it, only one that names its arguments."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    if bare and not {"arguments", "parameters"} & value.keys():
        return None  # a person's record, say, that was asked for
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # some models quote them once more
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(arguments, dict):
        return None
    try:
        call = ToolCall(value["name"], json.dumps(arguments, ensure_ascii=False, allow_nan=False))
        (call.name + call.arguments).encode()
    except ValueError:  # no number, or half a surrogate pair: nothing that a client could read
        return None
    return call


def _tail(text: str, mark: str) -> int:
    """Characters at the end of `text` that may be the beginning of `mark`."""
    for n in range(min(len(text), len(mark) - 1), 0, -1):
        if mark.startswith(text[-n:]):
            return n
    return 0
