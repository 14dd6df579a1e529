"""MQTT: state, events and latency to a broker; commands from it; Home Assistant finds it by itself.

async with asyncio.TaskGroup() as tasks:
    bridge = Bridge(server.hub, Broker.parse("mqtt://localhost"))
    tasks.create_task(bridge.run())
    ...
    await bridge.close()
"""

from textpro_stream.server.mqtt.bridge import Bridge, forget
from textpro_stream.server.mqtt.broker import Broker

__all__ = ["Bridge", "Broker", "forget"]
