"""`examples/mqtt_state.py` prints what a bridge publishes."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import broker as brokers
from broker import PASSWORD
from scripted_hub import ScriptedHub

from textpro_stream.events import TurnLatency
from textpro_stream.server.mqtt import Bridge, Broker

EXAMPLE = brokers.ROOT / "examples/mqtt_state.py"


async def test_it_prints_state_and_latency(tmp_path: Path) -> None:
    broker = brokers.Broker(tmp_path / "broker", anonymous=True)
    broker.start()
    hub = ScriptedHub()
    bridge = Bridge(hub, Broker.parse(broker.url(), password=PASSWORD))
    running = asyncio.create_task(bridge.run())
    command = [sys.executable, str(EXAMPLE), f"localhost:{broker.port}", "test"]
    example = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    assert example.stdout is not None
    try:
        async with asyncio.timeout(20):
            seen = ""
            while "node is idle" not in seen:
                seen += (await example.stdout.readline()).decode()
            hub.publish("s1", TurnLatency(1, 0, {"server_perceived": 0.4321}))
            while "node answered 0.43 s after you fell silent" not in seen:
                seen += (await example.stdout.readline()).decode()
            assert "node is online" in seen
    finally:
        example.terminate()
        await example.wait()
        await bridge.close()
        assert running.cancelled()
        broker.kill()
