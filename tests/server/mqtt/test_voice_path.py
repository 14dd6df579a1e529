"""What a broker does must not be heard: turns over a real socket while it dies and comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broker import PASSWORD
from broker import Broker as BrokerProcess
from server_launcher import ScriptedEngine

from textpro_stream.client import connect
from textpro_stream.config import ServerOptions
from textpro_stream.server.app import Server
from textpro_stream.server.mqtt import Bridge, Broker
from textpro_stream.server.mqtt import bridge as bridges

STALL_S = 0.3  # more than a broker may add to the longest wait between two messages

Turn = tuple[dict[str, list[Any]], float]  # what was said, by kind; the longest wait


async def typed_turn(url: str, at: dict[int, Callable[[], None]]) -> Turn:
    """One turn; after so many messages, something happens beside it."""
    said: dict[str, list[Any]] = {}
    longest, last, count = 0.0, time.monotonic(), 0
    beside: list[asyncio.Task[None]] = []
    async with asyncio.timeout(30), connect(url) as session:
        await session.say("What time is it?")
        async for message in session:
            now = time.monotonic()
            longest, last, count = max(longest, now - last), now, count + 1
            said.setdefault(message["type"], []).append(
                {k: v for k, v in message.items() if k in ("text", "reason", "start_s", "pcm")}
            )
            if happens := at.get(count):
                beside.append(asyncio.create_task(asyncio.to_thread(happens)))
            if message["type"] == "turn.latency":
                break
    await asyncio.gather(*beside)
    return said, longest


async def test_a_broker_that_dies_in_mid_turn_changes_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridges, "RETRY_FIRST_S", 0.05)
    monkeypatch.setattr(bridges, "RETRY_MAX_S", 0.1)
    process = BrokerProcess(tmp_path / "broker")
    process.start()
    engine: Any = ScriptedEngine({"pieces": 20, "piece_s": 0.03})
    async with Server(engine, ServerOptions(port=0)) as server:
        url = server.url("ws", "/v1/stream")
        bridge = Bridge(server.hub, Broker.parse(process.url(), password=PASSWORD))
        running = asyncio.create_task(bridge.run())
        await connected(bridge)
        undisturbed, usual = await typed_turn(url, {})
        disturbed, longest = await typed_turn(url, {4: process.kill, 9: process.start})
        assert disturbed == undisturbed
        assert longest < usual + STALL_S
        await connected(bridge)
        await bridge.close()
        assert running.cancelled()
    process.kill()


async def connected(bridge: Bridge) -> None:
    async with asyncio.timeout(10):
        while not bridge.connected:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
