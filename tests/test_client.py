"""The client of the lean route, against a server in this process."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from server_launcher import ScriptedEngine
from server_process import QUESTION, REPLY, pcm

from textpro_stream.client import connect
from textpro_stream.config import ServerOptions
from textpro_stream.contracts import AudioChunk
from textpro_stream.errors import DeviceError
from textpro_stream.server.app import Server


async def test_a_proxy_never_stands_before_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody is there
    monkeypatch.delenv("no_proxy", raising=False)
    engine = ScriptedEngine({})
    async with (
        Server(engine, ServerOptions(port=0)) as server,
        connect(server.url("ws", "/v1/stream"), live=False) as session,
    ):
        assert (await anext(aiter(session)))["type"] == "session.started"
    engine.close()


async def test_a_whole_turn_with_its_sound() -> None:
    engine = ScriptedEngine({})
    async with Server(engine, ServerOptions(port=0)) as server:
        url = server.url("ws", "/v1/stream")
        async with connect(url, live=False, source="a.wav", vectors=True) as session:
            await session.send(AudioChunk(QUESTION, 0))
            await session.end()
            messages = [message async for message in session]
    engine.close()
    first, *_, last = messages
    assert first["type"] == "session.started"
    assert first["reply_rate_hz"] == 16_000
    assert first["limits"]["message_bytes"] == 2**20
    assert last["type"] == "source.done"
    assert {m["source"] for m in messages[1:]} == {"a.wav"}
    audio = [m for m in messages if m["type"] == "speech.audio"]
    assert [len(m["pcm"]) // 2 for m in audio] == [round(m["duration_s"] * 16_000) for m in audio]
    assert np.frombuffer(audio[0]["pcm"], "<i2")[0] == round(0.1 * 32767)
    assert next(m for m in messages if m["type"] == "reply.done")["text"] == REPLY
    assert all("embedding" in m for m in messages if m["type"] == "prosody.window")


async def test_the_clock_of_the_events_is_answered_at_once() -> None:
    engine = ScriptedEngine({})
    async with (
        Server(engine, ServerOptions(port=0)) as server,
        connect(server.url("ws", "/v1/stream")) as session,
    ):
        await session.command("clock", t0=12.5)
        answer = next(m for m in [m async for m in first(session, 2)] if m["type"] == "clock")
    engine.close()
    assert answer["t0"] == 12.5
    assert 0 <= answer["t1"] <= answer["t2"] < 10


async def first(session, n):
    async for message in session:
        yield message
        n -= 1
        if not n:
            return


async def test_marks_and_volume() -> None:
    engine = ScriptedEngine({})
    async with Server(engine, ServerOptions(port=0)) as server:
        server.hub.volume(0.5)
        async with connect(server.url("ws", "/v1/stream"), live=False) as session:
            await session.command("mark", turn=1, name="false_cutoff")
            await session.command("mark", turn=1, name="whatever")
            await session.send(pcm(QUESTION))
            await session.end()
            messages = [message async for message in session]
        loud = max(
            np.abs(np.frombuffer(m["pcm"], "<i2")).max()
            for m in messages
            if m["type"] == "speech.audio"
        )
        counted = server.metrics.client_marks
        assert counted.labels("false_cutoff")._value.get() == 1
        assert counted.labels("other")._value.get() == 1
        server.hub.listen(False)
        async with connect(server.url("ws", "/v1/stream"), live=False) as session:
            await session.send(pcm(QUESTION))
            await session.end()
            unheard = [message["type"] async for message in session]
    engine.close()
    assert loud == round(0.05 * 32767)
    assert "speech.started" not in unheard


async def test_nobody_there_says_what_to_do() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DeviceError, match="textpro serve"):
        async with connect(f"ws://127.0.0.1:{port}/v1/stream"):
            pass


async def test_a_refusal_gives_its_reason() -> None:
    engine = ScriptedEngine({})
    options = ServerOptions(port=0, api_key="correct-horse-battery-staple")
    async with Server(engine, options) as server:
        with pytest.raises(DeviceError, match="401: a valid key is needed"):
            async with connect(server.url("ws", "/v1/stream"), key="wrong"):
                pass
    engine.close()


async def test_a_server_that_hangs_up_is_an_error_with_its_code() -> None:
    engine = ScriptedEngine({})
    async with Server(engine, ServerOptions(port=0, errors_in_a_row=1)) as server:
        async with connect(server.url("ws", "/v1/stream")) as session:
            await session.command("sing")
            await session.command("sing")
            with pytest.raises(DeviceError, match="1008") as error:
                _ = [message async for message in session]
        assert error.value.code == 1008
    engine.close()
