from __future__ import annotations

import asyncio
import time

import pytest

from textpro_stream.server.lag import PERIOD_S, watch_lag


async def test_a_blocked_loop_is_measured_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[float] = []
    watching = asyncio.create_task(watch_lag(seen.append))
    for _ in range(2):
        await asyncio.sleep(PERIOD_S / 2)
        time.sleep(0.25)  # noqa: ASYNC251, the very fault
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    watching.cancel()
    assert max(seen) == pytest.approx(0.25 - PERIOD_S / 2, abs=0.1)
    assert min(seen) >= 0
    assert [r.getMessage()[:31] for r in caplog.records] == ["the event loop stood still for "]
