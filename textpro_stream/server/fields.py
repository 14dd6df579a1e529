"""What strangers wrote, taken apart with care. Knows shapes, not meanings.

Both WebSocket routes read their messages with it; every mistake becomes one `Refused`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from textpro_stream.errors import TextproError

Json = dict[str, Any]

MAX_NUMBER = 2**53  # from there on, JavaScript counts in larger steps than one


def encoded_bytes(n_bytes: int) -> int:
    """Of a message at most that holds so many bytes in base64."""
    return -(-n_bytes // 3) * 4 + 1024


class Refused(TextproError):
    """What a client asks for cannot be done. Nothing has changed, and the connection lives.

    Args:
        code: for programs, e.g. "missing_field".
        message: one line for a person: what was expected, what to do.
        param: dotted path of the field that is wrong.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


def parse(text: str, *, echoed: bool = False) -> Json:
    """One JSON object.

    Args:
        text: of a message.
        echoed: parts of it go back to the client, so it may hold no number and no half of a
            character that cannot be written down again.

    Raises:
        Refused: it is no such thing.
    """
    try:
        value = json.loads(
            text, parse_constant=_no_number, parse_float=_finite if echoed else float
        )
        if echoed:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refused("invalid_json", f"not JSON: {reason[:200]}") from None
    if not isinstance(value, dict):
        raise Refused("invalid_json", 'an event is an object such as {"type": "response.create"}')
    return value


class Fields:
    """The fields of one object in a message, read with their types.

    Args:
        values: the object.
        path: where it lies in the message; "" is the message itself.
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
        value = self.required(name)
        if not isinstance(value, str):
            self.refuse(name, "a string")
        if len(value) > longest:
            self.refuse(name, f"at most {longest} characters")
        return value

    def text(self, name: str, longest: int) -> str:
        """A required string that says something."""
        value = self.required(name)
        if not isinstance(value, str) or not value.strip() or len(value) > longest:
            self.refuse(name, f"1 to {longest} characters")
        if any("\ud800" <= c <= "\udfff" for c in value):  # half a character, which JSON can spell
            self.refuse(name, "whole characters")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """A required integer from `low` to `high`."""
        value = self.required(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(name, f"an integer from {low} to {high}")
        return value

    def count(self, name: str) -> int:
        """A required whole number that is not negative."""
        value = self.required(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_NUMBER:
            self.refuse(name, "a whole number from 0 on")
        return value

    def number(self, name: str) -> float:
        """A required number."""
        value = self.required(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(name, "a number")
        if not abs(value) < MAX_NUMBER:
            self.refuse(name, "a number")
        return value

    def booleans(self, names: Iterable[str]) -> dict[str, bool]:
        """Those of some fields that are there; each is true or false."""
        chosen = {name: self.values[name] for name in names if name in self.values}
        for name, value in chosen.items():
            if not isinstance(value, bool):
                self.refuse(name, "true or false")
        return chosen

    def mapping(self, name: str) -> Fields:
        """A required object."""
        value = self.required(name)
        if not isinstance(value, dict):
            self.refuse(name, "an object")
        return Fields(value, self.at(name))

    def list_of(self, name: str, *, most: int) -> list[Fields]:
        """A required list of objects."""
        value = self.required(name)
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self.refuse(name, "a list of objects")
        if len(value) > most:
            self.refuse(name, f"at most {most} entries")
        return [Fields(each, f"{self.at(name)}[{i}]") for i, each in enumerate(value)]

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """A required string, one of a few."""
        value = self.required(name)
        if not isinstance(value, str) or value not in choices:
            self.refuse(name, "one of " + ", ".join(choices))
        return value

    def audio(self, name: str) -> bytes:
        """Required bytes in base64."""
        value = self.required(name)
        if not isinstance(value, str):
            self.refuse(name, "base64 text")
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            self.refuse(name, "base64 text without line breaks, padded with =")

    def required(self, name: str) -> Any:
        """A field that must be there, of any type.

        Raises:
            Refused: it is not there, or null.
        """
        value = self.values.get(name)
        if value is None:
            raise Refused("missing_field", f"{self.at(name)} is missing", self.at(name))
        return value

    def refuse(self, name: str, expected: str) -> NoReturn:
        """A field holds something else than expected."""
        raise Refused("invalid_value", f"{self.at(name)}: give {expected}", self.at(name))


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value
