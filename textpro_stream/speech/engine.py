"""The door between the worker process and what synthesises in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Engine(Protocol):
    """What turns text into audio."""

    rate_hz: int

    def speak(
        self,
        text: str,
        pause: bool,
        rate_wpm: int,
        audio: Callable[[bytes], bool],
        word: Callable[[int, int], None],
    ) -> None:
        """Say a text.

        Args:
            text: without markup.
            pause: end with the pause that follows it.
            rate_wpm: words per minute.
            audio: takes PCM16; False means stop.
            word: takes the sample and the character at which a word begins.
        """
        ...


class EngineError(Exception):
    """The engine cannot be had: one line with the fix."""
