"""A server process under test: started, talked to, measured, stopped."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scripted import sound

from textpro_stream.client import Session, connect

TESTS = Path(__file__).parent
BACK_S = 2.0  # within which everything has to be as it was
QUESTION = sound(("silence", 0.5), ("voice", 1.0), ("silence", 1.2))
REPLY = "It is noon. Really."


@dataclass(frozen=True)
class Baseline:
    """What a case must leave as it found it."""

    fds: int
    threads: int
    children: int
    rss: int  # bytes
    tasks: int
    sessions: int
    rows: int  # of the LLM's cache


class ServerProcess:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._ps = psutil.Process(process.pid)
        self.output: list[str] = []
        self.port = self._read_port()

    def _read_port(self) -> int:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if found := re.search(r"ws://127\.0\.0\.1:(\d+)/v1/stream", line):
                return int(found[1])
        raise AssertionError(f"the server did not start: {''.join(self.output)}")

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    @property
    def realtime_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/realtime"

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def cpu_s(self) -> float:
        times = self._ps.cpu_times()
        return float(times.user + times.system)

    def sample(self) -> Baseline:
        figures = self.metrics()
        time.sleep(0.02)  # the answer's own connection is closed by then
        return Baseline(
            fds=self._ps.num_fds(),
            threads=self._ps.num_threads(),
            children=len(self._ps.children()),
            rss=self._ps.memory_info().rss,
            tasks=int(figures["textpro_asyncio_tasks"]),
            sessions=int(sum(v for k, v in figures.items() if k.startswith("textpro_sessions{"))),
            rows=int(figures["textpro_cache_rows"]),
        )

    async def settle(self) -> Baseline:
        """A baseline of a server that has worked before, at rest."""
        await good_turn(self.url)
        return await self.at_rest()

    async def at_rest(self) -> Baseline:
        """A baseline, once nothing moves any more."""
        before = await asyncio.to_thread(self.sample)
        while True:
            await asyncio.sleep(0.1)
            now = await asyncio.to_thread(self.sample)
            if (now.fds, now.tasks, now.sessions, now.rows) == (
                before.fds,
                before.tasks,
                before.sessions,
                0,
            ):
                return now
            before = now

    async def returns_to(self, baseline: Baseline, within_s: float = BACK_S) -> None:
        """All as it was, soon, and a fresh client gets its full turn."""
        await self.is_back_at(baseline, within_s)
        await good_turn(self.url)

    async def is_back_at(self, baseline: Baseline, within_s: float = BACK_S) -> None:
        """All as it was, soon."""
        ends = time.monotonic() + within_s
        while difference := self._difference(await asyncio.to_thread(self.sample), baseline):
            assert time.monotonic() < ends, difference
            await asyncio.sleep(0.05)

    @staticmethod
    def _difference(now: Baseline, then: Baseline) -> str:
        wrong = [
            f"{name}: {getattr(now, name)} instead of {getattr(then, name)}"
            for name in ("fds", "threads", "children", "tasks", "sessions", "rows")
            if getattr(now, name) > getattr(then, name)
        ]
        if now.rss > 1.05 * then.rss:
            wrong.append(f"memory: {now.rss >> 20} MiB instead of {then.rss >> 20}")
        return "; ".join(wrong)

    async def hangs_up(self, closing: int, n: int = 1) -> None:
        """Wait until it has ended so many connections with that code."""
        name = f'textpro_hangups_total{{closing="{closing}"}}'
        async with asyncio.timeout(20):
            while (await asyncio.to_thread(self.metrics)).get(name, 0) < n:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def ready(self) -> bool:
        address = f"http://127.0.0.1:{self.port}/readyz"
        try:
            urllib.request.urlopen(address).close()
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return False
        return True

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 15.0) -> int:
        return self.process.wait(timeout)

    def stop(self) -> str:
        """End it, whatever state it is in; give what it printed since it started."""
        if self.process.poll() is None:
            self.process.kill()
        rest, _ = self.process.communicate()
        return rest


@contextmanager
def serving(**order: Any) -> Iterator[ServerProcess]:
    """A server of its own, as `server_launcher.py` explains; it must not print a traceback."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("TEXTPRO_")}
    modules = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("server_launcher.py")), json.dumps(order)],
        env={
            **environ,
            "PYTHONPATH": modules,
            "PYTHONUNBUFFERED": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    server = None
    try:
        server = ServerProcess(process)
        yield server
    finally:
        rest = server.stop() if server else process.kill() or process.communicate()[0]
    assert "Traceback" not in rest, rest


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


async def good_turn(url: str, *, key: str | None = None) -> list[dict[str, Any]]:
    """A whole spoken turn of a well-behaved client."""
    async with asyncio.timeout(20), connect(url, key=key) as session:
        await session.send(pcm(QUESTION))
        messages = await until(session, "turn.latency")
        await session.end()
        messages += [message async for message in session]
    assert messages[-1]["type"] == "source.done"
    (endpoint,) = (m for m in messages if m["type"] == "turn.endpoint")
    assert endpoint["transcript"] == " What time is it?"
    return messages


async def until(session: Session, kind: str, **fields: Any) -> list[dict[str, Any]]:
    """Messages up to the first of a kind, with these fields."""
    seen = []
    async with asyncio.timeout(20):
        async for message in session:
            seen.append(message)
            if message["type"] == kind and fields.items() <= message.items():
                return seen
    raise AssertionError(f"no {kind} came, but {[m['type'] for m in seen]}")
