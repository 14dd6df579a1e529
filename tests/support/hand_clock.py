"""A clock that a test moves."""

from __future__ import annotations

import asyncio


class HandClock:
    """Time passes when a test says so."""

    def __init__(self) -> None:
        self._time = 0.0
        self._moved = asyncio.Event()

    @property
    def time(self) -> float:
        return self._time

    @time.setter
    def time(self, moment: float) -> None:
        self._time = moment
        self._moved.set()
        self._moved = asyncio.Event()

    def now(self) -> float:
        return self._time

    def cpu(self) -> float:
        return 0.0

    async def sleep_until(self, moment: float) -> None:
        while self._time < moment:
            await self._moved.wait()
