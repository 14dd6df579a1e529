"""Numbers of a conversation's turns, spoken or asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterable


class TurnNumbers:
    """Counts from 1; any thread may draw.

    Args:
        reserved: numbers that commands will bring along, left out here: so a recording, told again,
            gives its spoken turns the numbers that they had.
    """

    def __init__(self, reserved: Iterable[int] = ()) -> None:
        taken = frozenset(reserved)
        self._numbers = (n for n in itertools.count(1) if n not in taken)

    def next(self) -> int:
        """One that nobody has."""
        return next(self._numbers)
