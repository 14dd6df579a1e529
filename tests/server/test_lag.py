from __future__ import annotations

import asyncio

import pytest

from textpro_stream.server.lag import PERIOD_S, watch_lag


async def test_a_blocked_loop_is_measured_and_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, seen, stood_s = asyncio.get_running_loop(), list[float](), 0.0
    running = loop.time
    monkeypatch.setattr(loop, "time", lambda: running() + stood_s)
    watching = asyncio.create_task(watch_lag(seen.append))
    for n in (1, 2):
        await asyncio.sleep(0)  # it looks at the time, and waits
        stood_s += PERIOD_S + 0.25
        while len(seen) < n:  # noqa: ASYNC110, it takes no event
            await asyncio.sleep(0)
    watching.cancel()
    assert max(seen) == pytest.approx(0.25, abs=0.1)
    assert min(seen) >= 0
    assert [r.getMessage()[:31] for r in caplog.records] == ["the event loop stood still for "]
