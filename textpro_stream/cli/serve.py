"""`textpro serve`: the page, the WebSocket routes, health and metrics on one port."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textpro_stream.config import ServerOptions, Settings
from textpro_stream.errors import ConfigError

if TYPE_CHECKING:
    from textpro_stream.server.app import Server
    from textpro_stream.server.mqtt import Broker

EXAMPLES = """\
examples:
  textpro serve                          open the link that it prints
  textpro serve --port 0                 any free port
  ssh -L 8765:127.0.0.1:8765 HOST        talk to the server on HOST from here
  TEXTPRO_SERVER__API_KEY=... textpro serve --host 0.0.0.0 --tls

Without TLS, browsers give the microphone only to pages of this very machine. SIGTERM and Ctrl-C
let replies end (5 s at most), say goodbye to clients and exit with 0; a second one exits at once,
with 143 or 130.
"""

FLAGS = {  # flag: (option of [server], help)
    "--host": ("host", "address to listen on; any but this machine's own needs a key"),
    "--port": ("port", "0 = any free one"),
    "--api-key-file": ("api_key_file", "lines `name: key`; or set TEXTPRO_SERVER__API_KEY"),
    "--tls-cert": ("tls_cert", "certificate, PEM"),
    "--tls-key": ("tls_key", "its private key, PEM"),
    "--origin": ("origins", "further pages that may connect, with commas between them"),
    "--server-name": ("hosts", "further names of this server, with commas between them"),
    "--proxy": ("proxies", "reverse proxies before us: addresses, with commas between them"),
    "--mqtt": ("mqtt", "broker: mqtt://[user@]host[:port][/prefix], or mqtts:// for TLS"),
    "--mqtt-ca": ("mqtt_ca", "certificate to trust, PEM"),
    "--max-sessions": ("max_sessions", "who comes later is refused"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `serve`."""
    for flag, (option, text) in FLAGS.items():
        number = option in ("port", "max_sessions")
        placeholder = "N" if number else "TEXT"
        parser.add_argument(flag, dest=f"server {option}", metavar=placeholder, help=text)
    parser.add_argument("--tls", action="store_true", help="with a certificate made on the spot")
    parser.add_argument("--insecure", action="store_true", help="let other machines in, no key")
    parser.add_argument("--mqtt-text", action="store_true", help="publish what is said, too")
    parser.add_argument(
        "--mqtt-forget", action="store_true", help="remove all that the broker keeps of us, and end"
    )
    parser.add_argument("--no-speech", action="store_true", help="reply in text only")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run it; give the exit status."""
    from textpro_stream.cli import runner
    from textpro_stream.cli.settings import value_of

    options = settings.server
    changes: dict[str, Any] = {
        option: value_of(f"server.{option}", text, flag)
        for flag, (option, _) in FLAGS.items()
        if (text := getattr(args, f"server {option}")) is not None
    }
    changes |= {name: True for name in ("tls", "insecure", "mqtt_text") if getattr(args, name)}
    options = replace(options, **changes)
    return runner.run(_serve(args, replace(settings, server=options)))


async def _serve(args: argparse.Namespace, settings: Settings) -> int:
    from textpro_stream.cli.notices import tell_what_is_off
    from textpro_stream.cli.progress import Downloads
    from textpro_stream.pipeline import Engine
    from textpro_stream.runtime.memory import freeze_gc
    from textpro_stream.server.app import Server, listening_socket
    from textpro_stream.server.security import check_bind, read_keys
    from textpro_stream.server.tls import tls_context

    options = settings.server
    broker = _broker(options)
    if args.mqtt_forget:
        return await _forget(broker)
    check_bind(options, read_keys(options))  # before any model is loaded
    listening_socket(options.host, options.port).close()  # likewise
    tls_context(options)
    async with AsyncExitStack() as stack:
        with Downloads() as progress:
            engine = await stack.enter_async_context(
                await Engine.load(settings, speech=not args.no_speech, progress=progress)
            )
        tell_what_is_off(engine)
        freeze_gc()
        server = await stack.enter_async_context(Server(engine, options))
        await stack.enter_async_context(_beside(server.warm_up()))
        if broker is not None:
            from textpro_stream.server.mqtt import Bridge

            bridge = Bridge(server.hub, broker, text=options.mqtt_text)
            await stack.enter_async_context(_beside(bridge.run()))
        await until_stopped(server)
    return 0


async def until_stopped(server: Server) -> None:
    """Say where the server is, wait for a signal, drain. A second signal ends the process."""
    stopped = asyncio.Event()
    _listen_for_signals(stopped)
    print(announcement(server), flush=True)
    await stopped.wait()
    print("stopping; once more stops at once", flush=True)
    await server.drain()


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do this meanwhile; when the block is left, it is cancelled and has ended."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _broker(options: ServerOptions) -> Broker | None:
    if not options.mqtt:
        return None
    from textpro_stream.server.mqtt import Broker

    return Broker.parse(
        options.mqtt,
        password=options.mqtt_password or None,
        ca=options.mqtt_ca or None,
        discovery=options.mqtt_discovery,
    )


async def _forget(broker: Broker | None) -> int:
    from textpro_stream.server.mqtt import forget

    if broker is None:
        raise ConfigError("--mqtt-forget: name the broker, with --mqtt")
    await forget(broker)
    print(f"{broker} keeps nothing of this server")
    return 0


def announcement(server: Server) -> str:
    """Where everything is, for a person at a terminal."""
    code = f"#{server.page_code}" if server.page_code else ""
    lines = [f"talk here:  {server.url('http')}{code}"]
    if server.host_elsewhere:
        elsewhere = server.url("http", host=server.host_elsewhere)
        lines.append(f"elsewhere:  {elsewhere}{code}")
        if not server.secure:
            lines.append("            without TLS (--tls), browsers there give no microphone")
    lines += [
        f"scripts:    {server.url('ws', '/v1/stream')}",
        f"OpenAI SDK: {server.url('http', '/v1')}  as its base_url",
        f"metrics:    {server.url('http', '/metrics')}",
    ]
    return "\n".join(lines)


def _listen_for_signals(stopped: asyncio.Event) -> None:
    """The first signal stops kindly, the second at once."""
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if stopped.is_set():
            os._exit(128 + number)
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
