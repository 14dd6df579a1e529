"""Reading what strangers wrote: one JSON object, its fields, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from textpro_stream.errors import TextproError


class Mistake(TextproError):
    """A message that cannot be obeyed; the connection lives."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def parse(text: str) -> dict[str, Any]:
    """One JSON object with a `type`.

    Raises:
        Mistake: it is none.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Mistake("invalid_json", "send one JSON object") from None
    if not isinstance(value, dict):
        raise Mistake("invalid_json", "send one JSON object")
    if not isinstance(value.get("type"), str):
        raise Mistake("missing_field", "type: every message names one")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _field(order: dict[str, Any], name: str) -> Any:
    if name not in order:
        raise Mistake("missing_field", f"{name}: {order['type']} needs it")
    return order[name]


def text_of(order: dict[str, Any], name: str, longest: int) -> str:
    """A field that holds some text."""
    value = _field(order, name)
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise Mistake("invalid_value", f"{name}: give 1 to {longest} characters")
    if any("\ud800" <= c <= "\udfff" for c in value):  # half a character, which JSON can spell
        raise Mistake("invalid_value", f"{name}: give whole characters")
    return value


def count_of(order: dict[str, Any], name: str) -> int:
    """A field that holds a whole number that is not negative."""
    value = _field(order, name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise Mistake("invalid_value", f"{name}: give a whole number from 0 on")
    return value


def number_of(order: dict[str, Any], name: str) -> float:
    """A field that holds a number."""
    value = _field(order, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        raise Mistake("invalid_value", f"{name}: give a number")
    return value


def booleans_of(order: dict[str, Any], names: Iterable[str]) -> dict[str, bool]:
    """Those of some fields that are there; each is true or false."""
    chosen = {name: order[name] for name in names if name in order}
    for name, value in chosen.items():
        if not isinstance(value, bool):
            raise Mistake("invalid_value", f"{name}: give true or false")
    return chosen
