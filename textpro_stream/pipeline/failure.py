"""From what a group of tasks raised to the one error that a person should see."""

from __future__ import annotations

from textpro_stream.errors import StageError, TextproError


def cause(error: BaseException | None) -> TextproError:
    """The first real failure among those of a group of tasks, in one line.

    Args:
        error: an exception or a (nested) group of them.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TextproError):
        return error
    text = " ".join(str(error).split())
    failure = StageError(f"a stage failed: {type(error).__name__}: {text}")
    failure.__cause__ = error
    return failure
