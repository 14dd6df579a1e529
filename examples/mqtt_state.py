"""What the assistant is doing, and how fast it answers, from anywhere in the house.

    textpro serve --mqtt mqtt://localhost
    python examples/mqtt_state.py [host[:port] [prefix]]   # beside it; Ctrl-C ends it

Commands go the other way: mosquitto_pub -t textpro/HOST/say/set -m "Dinner is ready"
"""

import asyncio
import json
import sys
from contextlib import suppress

import aiomqtt


async def main(host: str = "localhost", prefix: str = "textpro") -> None:
    name, _, port = host.partition(":")
    async with aiomqtt.Client(name, int(port or 1883)) as broker:
        await broker.subscribe(f"{prefix}/#")
        print(f"listening at {host}; speak to the assistant", flush=True)
        async for message in broker.messages:
            assert isinstance(message.payload, bytes)
            *_, node, topic = message.topic.value.split("/")
            payload = message.payload.decode()
            if topic in ("status", "state"):
                print(f"{node} is {payload}", flush=True)
            elif topic == "latency" and (gap := json.loads(payload).get("server_perceived")):
                print(f"{node} answered {gap:.2f} s after you fell silent", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
