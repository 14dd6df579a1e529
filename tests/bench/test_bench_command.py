"""`textpro bench latency` against a scripted server: what is asked, in which order, and written."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from textpro_stream.bench import latency
from textpro_stream.clock import VirtualClock
from textpro_stream.config import Settings
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import ConfigError

SILENCE = round(0.5 * SAMPLE_RATE)


class Listening:
    """A session that answers half a second after it last heard anything loud."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock, self._heard, self._loud, self._done = clock, 0, 0, False
        self._out: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(self, audio: bytes, /) -> None:
        samples = np.frombuffer(audio, "<i2")
        self._heard += len(samples)
        if np.abs(samples.astype(int)).max() > 100:
            self._loud = self._heard
        if self._loud and not self._done and self._heard - self._loud >= SILENCE:
            self._done = True
            at_s, head = self._heard / SAMPLE_RATE, {"turn": 1}
            said = [
                {"type": "turn.endpoint", "at_s": at_s, "transcript": " Yes?"},
                {"type": "speech.audio", "wall_s": 0.0, "duration_s": 0.1, "pcm": b"\0\x20"},
                {"type": "reply.given", "marks": {"server_perceived": 0.5}},
                {"type": "turn.latency", "server_perceived": 0.5},
            ]
            for message in said:
                self._out.put_nowait(message | head)
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def command(self, kind: str, /, **fields: Any) -> None:
        if kind == "clock":
            now = self._clock.now()
            self._out.put_nowait({"type": "clock", "t0": fields["t0"], "t1": now, "t2": now})

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "session.started", "version": "9", "models": {"llm": "theirs"}}
        while True:
            yield await self._out.get()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    clock, urls = VirtualClock(5.0), list[str]()

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[Listening]:
        urls.append(url)
        yield Listening(clock)

    monkeypatch.setattr(latency, "MonotonicClock", lambda: clock)
    monkeypatch.setattr(latency, "open_session", lambda key: connect)
    return urls


def arguments(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    latency.add_arguments(parser)
    return parser.parse_args(flags)


def test_the_result_is_the_last_line_and_in_the_file(opened, tmp_path, capsys) -> None:
    written, drawn = tmp_path / "r.json", tmp_path / "r.html"
    flags = ["--url", "ws://x", "--each", "2", "--lengths", "1.5,3"]
    args = arguments(*flags, "--json", str(written), "--report", str(drawn))
    assert latency.run(args, Settings()) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == json.loads(written.read_text())
    assert "<svg" in drawn.read_text()
    assert [turn["group"] for turn in result["turns"]] == ["1.5 s", "3 s"] * 2
    assert all(turn["status"] == "ok" for turn in result["turns"])
    assert len(result["warm_up"]) == latency.WARM_UP
    assert result["environment"]["models"] == {"llm": "theirs"}
    assert result["environment"]["version"] == "9"


def test_listeners_go_on_until_the_bound_is_passed(opened, capsys) -> None:
    flags = ["--url", "ws://x", "--each", "1", "--lengths", "1.5", "--sessions", "1,2"]
    assert latency.run(arguments(*flags, "--bound-ms", "400"), Settings()) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    (entry,) = result["sessions"]  # 500 ms at once: the first is already too slow
    assert (entry["sessions"], entry["holds"]) == (1, False)
    latency.run(arguments(*flags), Settings())
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [entry["sessions"] for entry in result["sessions"]] == [1, 2]


def test_baselines_need_a_server_of_our_own() -> None:
    with pytest.raises(ConfigError, match="--url"):
        latency.run(arguments("--url", "ws://x", "--baselines"), Settings())


@pytest.mark.parametrize("flags", [("--sessions", "0"), ("--lengths", "900")])
def test_senseless_numbers_are_refused(flags, capsys) -> None:
    with pytest.raises(SystemExit):
        arguments(*flags)
    assert "give" in capsys.readouterr().err
