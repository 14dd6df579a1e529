"""What an option may hold: read off its annotation, checked wherever its dataclass is made.

    silence_ms: Annotated[int, Range(20, 10_000)] = 500
    vad: Literal["silero", "webrtc"] = "silero"

The end of an option's name is the unit of its number. Whoever writes `TurnOptions(silence_ms=5)`
in Python gets the line that the command line prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from textpro_stream.errors import ConfigError, nearest

_UNITS = {"_per_s": "a second", "_ms": "ms", "_s": "s", "_bytes": "bytes", "_wpm": "words a minute"}
_CALLED = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that an option may be.

    Args:
        least: allowed, like `greatest`.
        greatest: above it no value makes sense.
        step: only its multiples are allowed, counted from 0; `least` is one.
    """

    least: float
    greatest: float
    step: int | None = None

    def __contains__(self, number: float) -> bool:
        on_grid = self.step is None or number % self.step == 0
        return self.least <= number <= self.greatest and on_grid

    def __str__(self) -> str:
        text = f"{self.least} to {self.greatest}"
        return text if self.step is None else f"{text} in steps of {self.step}"

    def clamp(self, number: float) -> float:
        """The nearest number within the bounds, whatever the step."""
        return min(max(number, self.least), self.greatest)


@dataclass(frozen=True, slots=True)
class Kind:
    """What one option is.

    Args:
        type: bool, int, float or str.
        choices: the only values, where it has such.
        range: bounds, if it is a number and has some.
    """

    type: type
    choices: tuple[str, ...] = ()
    range: Range | None = None

    def check(self, key: str, value: object, origin: str | None = None) -> None:
        """Refuse a value that the option cannot have.

        Args:
            key: `section.option`.
            value: in the option's own type.
            origin: where it was written, for the message; the key by default.

        Raises:
            ConfigError: one line with the origin, the value and what is allowed.
        """
        wrong = f"{origin or key} = {value!r}"
        if self.choices:
            if value not in self.choices:
                near = nearest(str(value), self.choices)
                choices = ", ".join(self.choices)
                raise ConfigError(f"{wrong}: {near} (one of {choices})", key=key, value=value)
            return
        takes: tuple[type, ...] = (int, float) if self.type is float else (self.type,)
        if not isinstance(value, takes) or (isinstance(value, bool) and self.type is not bool):
            raise ConfigError(f"{wrong}: give {_CALLED[self.type]}", key=key, value=value)
        if self.range is not None and isinstance(value, int | float) and value not in self.range:
            unit = next((f" {unit}" for end, unit in _UNITS.items() if key.endswith(end)), "")
            raise ConfigError(f"{wrong}: give {self.range}{unit}", key=key, value=value)


class Checked:
    """Base of the dataclasses of options: one that exists holds only what it may.

    `TurnOptions` is the section `turn`.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        options: type = type(self)
        section = options.__name__.removesuffix("Options").lower()
        for name, kind in kinds(options).items():
            kind.check(f"{section}.{name}", getattr(self, name))
        self._check_together()

    def _check_together(self) -> None:
        """Refuse values that are allowed one by one, but not beside each other."""


@cache
def kinds(options: type) -> dict[str, Kind]:
    """The options of a dataclass, by name."""
    return {
        name: _kind(hint) for name, hint in get_type_hints(options, include_extras=True).items()
    }


def _kind(hint: Any) -> Kind:
    if get_origin(hint) is Literal:
        return Kind(str, choices=get_args(hint))
    if get_origin(hint) is Annotated:
        plain, limits = get_args(hint)
        return Kind(plain, range=limits)
    return Kind(hint)
