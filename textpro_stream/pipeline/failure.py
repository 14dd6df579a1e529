"""From what a group of tasks raised to the one error that a person should see."""

from __future__ import annotations

from textpro_stream.errors import StageError, TextproError


def first(error: BaseException) -> BaseException:
    """The first real failure in a (nested) group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def cause(error: BaseException | None) -> TextproError:
    """The same as an error with one line for a person."""
    if error is not None:
        error = first(error)
    if isinstance(error, TextproError):
        return error
    text = " ".join(str(error).split())
    failure = StageError(f"a stage failed: {type(error).__name__}: {text}")
    failure.__cause__ = error
    return failure
