"""Thousands of wrong messages against the real server process, over both routes.

    TEXTPRO_FUZZ=10000 pytest tests/server/test_fuzz.py                 the full number
    TEXTPRO_FUZZ_SEED="realtime 309" pytest -s tests/server/test_fuzz.py   one session again

Each session sends some valid and many wrong messages. Whatever comes back must be a valid event of
its route, a session ends in a documented way, the server prints no traceback, and everything is as
it was afterwards. A session is drawn from its seed alone, which a failure names.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from fuzzing import Message, Raw, lean, mutated, realtime
from server_process import ServerProcess, serving
from strict import Strict
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

MESSAGES = int(os.environ.get("TEXTPRO_FUZZ", "400"))
SEED = os.environ.get("TEXTPRO_FUZZ_SEED", "")
AT_ONCE = 4
# README: done, going away, protocol error, bad UTF-8, policy, too big; None: the client left first.
CLOSES = {None, 1000, 1001, 1002, 1007, 1008, 1009}
SETTLES_S = 10.0

# The fields of each message of the lean route, beside its type; those of events come with a head.
HEAD = {"turn", "at_s", "wall_s", "source"}
LEAN = {
    "session.started": {"session", "reply_rate_hz", "input_rate_hz", "version", "models", "limits"},
    "clock": {"t0", "t1", "t2"},
    "speech.started": HEAD | {"speech_s"},
    "speech.stopped": HEAD | {"speech_s"},
    "transcript.hypothesis": HEAD | {"text"},
    "transcript.committed": HEAD | {"text", "start_s", "end_s", "tokens"},
    "transcript.revised": HEAD | {"text", "tokens"},
    "prosody.window": HEAD | {"start_s", "end_s", "n_tokens", "energy_dbfs"},
    "turn.tone": HEAD | {"emotion", "guess"},
    "turn.eager": HEAD,
    "turn.resumed": HEAD,
    "turn.endpoint": HEAD | {"transcript", "reason", "replies"},
    "turn.latency": HEAD,
    "reply.started": HEAD,
    "reply.delta": HEAD | {"text"},
    "reply.ducked": HEAD | {"ducked"},
    "reply.given": HEAD | {"text", "reason", "marks"},
    "reply.done": HEAD | {"text", "reason"},
    "speech.audio": HEAD | {"start_s", "duration_s"},
    "tool.call": HEAD | {"name", "arguments"},
    "error": {"code", "message"},
    "source.done": HEAD | {"turns", "words", "cpu_s"},
}


@dataclass
class Figures:
    sent: Counter[str] = field(default_factory=Counter)  # by route
    events: Counter[str] = field(default_factory=Counter)  # by type
    codes: Counter[str] = field(default_factory=Counter)  # of errors
    closes: Counter[str] = field(default_factory=Counter)


class LeanReader:
    """Holds what the lean route sends to its table."""

    def __init__(self) -> None:
        self._audio_follows = False

    def __call__(self, message: str | bytes) -> dict[str, Any]:
        if isinstance(message, bytes):
            assert self._audio_follows, "audio without its event"
            assert len(message) % 2 == 0
            self._audio_follows = False
            return {"type": "audio"}
        assert not self._audio_follows, "an event without its audio"
        event: dict[str, Any] = json.loads(message, parse_constant=_no_constant)
        assert LEAN[event["type"]] <= set(event), event
        self._audio_follows = event["type"] == "speech.audio"
        return event


class RealtimeReader:
    """Holds what the Realtime route sends to the types of the openai package."""

    def __init__(self) -> None:
        self._strict = Strict()

    def __call__(self, message: str | bytes) -> dict[str, Any]:
        assert isinstance(message, str)
        event: dict[str, Any] = self._strict(json.loads(message, parse_constant=_no_constant))
        return event


def _no_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


ROUTES = {"stream": (lean, LeanReader), "realtime": (realtime, RealtimeReader)}


async def session(url: str, route: str, seed: str, figures: Figures) -> None:
    """One connection, from its seed alone."""
    random = Random(seed)
    valid, reader = ROUTES[route]
    protocol = Subprotocol("realtime" if route == "realtime" else "textpro")
    async with connect(url, subprotocols=[protocol], compression=None) as socket:
        reading = asyncio.create_task(read(socket, reader(), figures))
        share = random.choice([0.2, 0.5, 0.8, 1.0])  # of wrong messages
        with suppress(ConnectionClosed):
            for _ in range(random.randint(4, 40)):
                wrong = random.random() < share
                await send(socket, mutated(random, valid) if wrong else valid(random))
                figures.sent[route] += 1
                if random.random() < 0.2:
                    await asyncio.sleep(random.choice([0, 0.001, 0.03]))
                if reading.done():
                    break
        if random.random() < 0.3 and not SEED:
            socket.transport.abort()
        else:
            await socket.close()
        await reading


async def send(socket: ClientConnection, message: Message) -> None:
    if isinstance(message, Raw):
        socket.transport.write(message.data)
    else:
        await socket.send(message)


async def read(socket: ClientConnection, check: Any, figures: Figures) -> None:
    try:
        while True:
            event = check(await socket.recv())
            figures.events[event["type"]] += 1
            if event["type"] == "error":
                figures.codes[str(event.get("code") or event["error"]["code"])] += 1
    except ConnectionClosed as closed:
        code = closed.rcvd.code if closed.rcvd else None
    figures.closes[str(code)] += 1
    assert code in CLOSES


async def flood(server: ServerProcess, wanted: int) -> Figures:
    """Sessions on both routes, some at once, until so many messages have been sent."""
    figures, number = Figures(), iter(range(10**9))

    async def sessions() -> None:
        while sum(figures.sent.values()) < wanted:
            await one(server, f"{[*ROUTES][(n := next(number)) % 2]} {n}", figures)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(sessions())
    return figures


async def one(server: ServerProcess, seed: str, figures: Figures) -> None:
    route = seed.split()[0]
    url = server.realtime_url if route == "realtime" else server.url
    try:
        async with asyncio.timeout(60):
            await session(url, route, seed, figures)
    except Exception as error:
        server.process.kill()
        said = server.process.stdout.read() if server.process.stdout else ""
        error.add_note(f"session {seed}; the server said: {said[-5000:]}")
        raise


# A connection that is cut leaves its socket to the garbage collector.
@pytest.mark.filterwarnings("ignore:.*socket:ResourceWarning")
async def test_wrong_messages_do_no_harm() -> None:
    limits = {"max_sessions": 64, "events_per_s": 100_000, "audio_burst_s": 600.0}
    with serving(server=limits) as server:
        if SEED:
            await one(server, SEED, figures := Figures())
            print(f"\n{figures}")
            return
        await flood(server, max(100, MESSAGES // 10))  # a server that has seen everything once
        before = await server.settle()
        figures = await flood(server, MESSAGES)
        await server.returns_to(before, SETTLES_S)
    print(f"\n{dict(figures.sent)}\n{figures.events}\n{figures.codes}\n{figures.closes}")
    assert sum(figures.sent.values()) >= MESSAGES
    assert figures.events["error"] > MESSAGES / 10
    assert {"reply.done", "response.done"} <= set(figures.events)
