"""What a client sent, taken apart with care. Knows shapes, not meanings.

Every mistake becomes one `Refused`, whose fields are those of the protocol's `error` event.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from typing import Any, NoReturn

Json = dict[str, Any]

MAX_EVENT_ID = 512  # characters


class Refused(Exception):
    """A client event that cannot be carried out; nothing has changed.

    Args:
        code: for programs, e.g. "missing_field".
        message: one line for a person: what was expected, what to do.
        param: dotted path of the field that is wrong.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


def parse(text: str) -> Json:
    """One client event, as an object with a `type`.

    Raises:
        Refused: it is no such thing.
    """
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refused("invalid_json", f"not JSON: {reason[:200]}") from None
    if not isinstance(value, dict):
        raise Refused("invalid_json", 'an event is an object such as {"type": "response.create"}')
    return value


def event_id_of(event: Json) -> str | None:
    """The client's own id of an event, for errors to repeat.

    Raises:
        Refused: it is no string, or a very long one.
    """
    value = event.get("event_id")
    if value is None or (isinstance(value, str) and len(value) <= MAX_EVENT_ID):
        return value
    raise Refused(
        "invalid_value", f"event_id is a string of at most {MAX_EVENT_ID} characters", "event_id"
    )


class Fields:
    """The fields of one object in an event, read with their types.

    Args:
        values: the object.
        path: where it lies in the event; "" is the event itself.
    """

    def __init__(self, values: Json, path: str = "") -> None:
        self.values, self._path = values, path

    def at(self, name: str) -> str:
        """Dotted path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def has(self, name: str) -> bool:
        """It is there, and not null."""
        return self.values.get(name) is not None

    def string(self, name: str, *, longest: int = 100_000) -> str:
        """A required string."""
        value = self._required(name)
        if not isinstance(value, str):
            self.refuse(name, "a string")
        if len(value) > longest:
            self.refuse(name, f"at most {longest} characters")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """A required integer from `low` to `high`."""
        value = self._required(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(name, f"an integer from {low} to {high}")
        return value

    def mapping(self, name: str) -> Fields:
        """A required object."""
        value = self._required(name)
        if not isinstance(value, dict):
            self.refuse(name, "an object")
        return Fields(value, self.at(name))

    def list_of(self, name: str, *, most: int) -> list[Fields]:
        """A required list of objects."""
        value = self._required(name)
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self.refuse(name, "a list of objects")
        if len(value) > most:
            self.refuse(name, f"at most {most} entries")
        return [Fields(each, f"{self.at(name)}[{i}]") for i, each in enumerate(value)]

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """A required string, one of a few."""
        value = self._required(name)
        if not isinstance(value, str) or value not in choices:
            self.refuse(name, "one of " + ", ".join(choices))
        return value

    def audio(self, name: str) -> bytes:
        """Required bytes in base64."""
        value = self._required(name)
        if not isinstance(value, str):
            self.refuse(name, "base64 text")
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            self.refuse(name, "base64 text without line breaks, padded with =")

    def refuse(self, name: str, expected: str) -> NoReturn:
        """A field holds something else than expected."""
        raise Refused("invalid_value", f"{self.at(name)}: give {expected}", self.at(name))

    def _required(self, name: str) -> object:
        value = self.values.get(name)
        if value is None:
            raise Refused("missing_field", f"{self.at(name)} is missing", self.at(name))
        return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value
