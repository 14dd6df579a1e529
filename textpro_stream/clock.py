"""The only reader of the monotonic clock.

Everything else works on the audio clock (sample indices). Tests inject a `VirtualClock`.
"""

from __future__ import annotations

import asyncio
import time


class MonotonicClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Seconds since an arbitrary fixed moment."""
        return time.monotonic()

    def cpu(self) -> float:
        """CPU seconds that this process has used, all threads."""
        return time.process_time()

    async def sleep_until(self, moment: float) -> None:
        """Sleep the difference, if there is any."""
        delay = moment - time.monotonic()
        await asyncio.sleep(max(0.0, delay))


class VirtualClock:
    """A clock that moves only when somebody sleeps: tests take no time."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        """Virtual seconds."""
        return self._now

    def cpu(self) -> float:
        """Virtual time costs nothing."""
        return 0.0

    async def sleep_until(self, moment: float) -> None:
        """Jump there, letting other tasks run once."""
        await asyncio.sleep(0)
        self._now = max(self._now, moment)
