"""Which of a llama.cpp server's slots belongs to which conversation.

A slot keeps one prompt. Without a choice the server takes the one that looks most alike, and two
conversations with one system prompt would take it from each other.
"""

from __future__ import annotations


class Slots:
    """The slots of one server."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self, total: int) -> int | None:
        """A free one of `total`; None: the server is to choose."""
        free = next((slot for slot in range(total) if slot not in self._taken), None)
        if free is not None:
            self._taken.add(free)
        return free

    def give_back(self, slot: int | None) -> None:
        """Another conversation may have it."""
        if slot is not None:
            self._taken.discard(slot)
