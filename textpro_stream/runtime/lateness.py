"""How late conversations hear: what a server has to know before it lets another one in."""

from __future__ import annotations

from collections import deque
from math import ceil

WINDOW_S = 10.0  # looked back: longer than a hiccup, shorter than anybody's patience
ENOUGH = 20  # figures; fewer say nothing about a 95th percentile


class Lateness:
    """Shared by all conversations of an engine. Written from the event loop only."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, float]] = deque()  # when, and by how many seconds

    def note(self, moment: float, late_s: float) -> None:
        """Audio has been heard so long after it came."""
        self._noted.append((moment, late_s))
        self._forget(moment)

    def p95_s(self, moment: float) -> float:
        """95th percentile of the last ten seconds; 0 while there is too little to tell."""
        self._forget(moment)
        if len(self._noted) < ENOUGH:
            return 0.0
        figures = sorted(late_s for _, late_s in self._noted)
        return figures[ceil(0.95 * len(figures)) - 1]

    def _forget(self, moment: float) -> None:
        while self._noted and self._noted[0][0] < moment - WINDOW_S:
            self._noted.popleft()
