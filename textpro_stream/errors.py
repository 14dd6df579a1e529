"""Everything this package raises on purpose.

    TextproError                what went wrong, and what to do about it, in one line
    ├── ConfigError             a key, flag or value that cannot be used
    ├── WeightsError            a model that is missing, damaged or of the wrong shape
    ├── AudioFormatError        audio that cannot be read
    ├── WireError               JSON that stands for nothing we know
    ├── DeviceError             a microphone, loudspeaker or accelerator that is not there
    ├── StageError              a stage failed while a conversation was running
    │   └── Overloaded          audio or commands come faster than they can be taken
    ├── Refused                 what a client asks for cannot be done (server/fields.py)
    └── Hangup                  a client's connection has to end (server/limits.py)

A message names what was expected, what was found and what to do; the same facts are attributes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

# What ends a conversation; `events.FailureCode` holds these too.
ErrorCode = Literal["error", "config", "weights", "audio_format", "device", "stage"]


class TextproError(Exception):
    """Root of the tree.

    Args:
        message: one line for a person: what was expected, what was found, what to do.
        facts: the same, for a program; each becomes an attribute.
    """

    code: str = "error"  # the `code` of the `error` event

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.facts = facts
        for name, value in facts.items():
            setattr(self, name, value)


class ConfigError(TextproError):
    """A key, flag or value that cannot be used."""

    code = "config"


class WeightsError(TextproError):
    """A model that is missing, damaged or of the wrong shape."""

    code = "weights"


class AudioFormatError(TextproError):
    """Audio that cannot be read."""

    code = "audio_format"


class WireError(TextproError):
    """JSON that stands for nothing we know: a message, a recording."""

    code = "wire"


class DeviceError(TextproError):
    """A microphone, loudspeaker or accelerator that is not there."""

    code = "device"


class StageError(TextproError):
    """A stage failed while a conversation was running."""

    code = "stage"


class Overloaded(StageError):
    """Audio or commands come faster than they can be taken."""


def unwrap(error: BaseException) -> BaseException:
    """The first real failure in a (nested) group of them, as task groups raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def as_textpro_error(error: BaseException) -> TextproError:
    """The one error that a person should see; an unexpected one is its cause."""
    error = unwrap(error)
    if isinstance(error, TextproError):
        return error
    text = " ".join(str(error).split())
    failure = StageError(f"a stage failed: {type(error).__name__}: {text}")
    failure.__cause__ = error
    return failure


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint naming the known word that looks most like this one, or all if none does."""
    known = list(known)
    name = word.rsplit(".", 1)[-1]
    close = [key for key in known if key.endswith(f".{name}")]  # right key, wrong section
    close = close or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(known[:12])}{', …' if len(known) > 12 else ''}"
