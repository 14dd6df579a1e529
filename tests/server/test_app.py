"""The server in this process, over real sockets; its session routes are tested beside this."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import trustme
from server_launcher import ScriptedEngine
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from textpro_stream.config import ServerOptions
from textpro_stream.errors import ConfigError
from textpro_stream.server.app import Server
from textpro_stream.server.tls import self_signed

KEY = "correct-horse-battery-staple"
knows_other_methods = pytest.mark.skipif(
    int(version("websockets").split(".")[0]) < 17,
    reason="websockets before 17 hangs up on any method but GET",
)


@asynccontextmanager
async def serving(order: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Server]:
    engine = ScriptedEngine(order or {})
    async with Server(engine, ServerOptions(**{"port": 0, **options})) as server:
        yield server
    engine.close()


async def ask(server: Server, request: str, **headers: str) -> tuple[int, dict[str, str], str]:
    """One HTTP request as it is written on the wire."""
    lines = [request, *(f"{name}: {value}" for name, value in headers.items())]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = (await asyncio.wait_for(reader.read(), 5)).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    return int(status.split()[1]), dict(f.split(": ", 1) for f in fields), body


def host(server: Server) -> dict[str, str]:
    return {"Host": f"127.0.0.1:{server.port}"}


async def test_the_page_health_and_metrics() -> None:
    async with serving() as server:
        status, headers, body = await ask(server, "GET / HTTP/1.1", **host(server))
        assert status == 200
        assert "<!doctype html>" in body
        assert f"ws://127.0.0.1:{server.port}" in headers["Content-Security-Policy"]
        assert (await ask(server, "GET /healthz HTTP/1.1", **host(server)))[2] == "ok\n"
        assert (await ask(server, "GET /readyz HTTP/1.1", **host(server)))[0] == 200
        status, headers, body = await ask(server, "GET /metrics?x HTTP/1.1", **host(server))
        assert headers["Content-Type"].startswith("text/plain")
        assert "textpro_ready 1.0" in body


@knows_other_methods
async def test_head_is_get_without_a_body() -> None:
    async with serving() as server:
        _, full, body = await ask(server, "GET / HTTP/1.1", **host(server))
        status, headers, nothing = await ask(server, "HEAD / HTTP/1.1", **host(server))
        assert (status, nothing) == (200, "")
        assert headers["Content-Length"] == full["Content-Length"] == str(len(body.encode()))


@knows_other_methods
async def test_what_http_does_not_change() -> None:
    async with serving() as server:
        status, headers, _ = await ask(server, "POST / HTTP/1.1", **host(server))
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


async def test_what_http_does_not_offer() -> None:
    async with serving() as server:
        status, _, body = await ask(server, "GET /none HTTP/1.1", **host(server))
        assert (status, body.count("\n")) == (404, 1)
        status, headers, _ = await ask(server, "GET /v1/stream HTTP/1.1", **host(server))
        assert (status, headers["Upgrade"]) == (426, "websocket")


async def test_a_rebound_name_gets_nothing_at_all() -> None:
    async with serving() as server:
        for path in ("/", "/metrics", "/v1/stream"):
            status, _, body = await ask(server, f"GET {path} HTTP/1.1", Host="evil.example")
            assert status == 403
            assert "<" not in body


async def test_pages_from_elsewhere_stay_outside() -> None:
    async with serving() as server:
        for origin in ("https://evil.example", "null", "http://localhost:3000"):
            with pytest.raises(InvalidStatus) as refusal:
                await connect(server.url("ws", "/v1/stream"), origin=origin)
            assert refusal.value.response.status_code == 403
        own = f"http://127.0.0.1:{server.port}"
        async with connect(server.url("ws", "/v1/stream"), origin=own):
            pass


async def test_the_page_has_a_code_where_keys_are_asked_for() -> None:
    async with serving(api_key=KEY) as server:
        protocols = ["textpro", f"openai-insecure-api-key.{server.page_code}"]
        own = f"http://127.0.0.1:{server.port}"
        async with connect(
            server.url("ws", "/v1/stream"), origin=own, subprotocols=protocols
        ) as opened:
            assert opened.subprotocol == "textpro"
    async with serving() as server:
        assert server.page_code == ""


async def test_a_client_without_subprotocols_comes_in_too() -> None:
    async with serving() as server, connect(server.url("ws", "/v1/stream")) as opened:
        assert opened.subprotocol is None


async def test_nobody_is_added_while_those_inside_are_heard_late() -> None:
    engine = ScriptedEngine({})
    async with Server(engine, ServerOptions(port=0, max_late_s=0.3)) as server:
        engine.late_s = 0.31
        async with connect(server.url("ws", "/v1/stream")) as first:  # there is nobody yet
            await first.recv()
            assert not server.ready
            with pytest.raises(InvalidStatus, match="503"):
                await connect(server.url("ws", "/v1/stream"))
            _, _, metrics = await ask(server, "GET /metrics HTTP/1.1", **host(server))
            assert "textpro_hearing_late_seconds 0.31" in metrics
            engine.late_s = 0.3
            assert server.ready
            async with connect(server.url("ws", "/v1/stream")) as second:
                await second.recv()
    engine.close()


async def test_not_ready_while_full_or_stopping() -> None:
    async with serving(max_sessions=1) as server:
        async with connect(server.url("ws", "/v1/stream")) as opened:
            await opened.recv()
            assert not server.ready
            status, _, body = await ask(server, "GET /readyz HTTP/1.1", **host(server))
            assert (status, body) == (503, "no free session\n")
        async with asyncio.timeout(5):
            while not server.ready:  # noqa: ASYNC110, there is no event for it
                await asyncio.sleep(0)
        await server.drain()
        assert not server.ready


async def test_a_sick_engine_is_not_ready() -> None:
    engine = ScriptedEngine({})
    async with Server(engine, ServerOptions(port=0)) as server:
        for _ in range(3):
            engine.health.failed("llm")
        status, _, body = await ask(server, "GET /readyz HTTP/1.1", **host(server))
        assert (status, body) == (503, "a model fails, or hangs\n")
        metrics = await ask(server, "GET /metrics HTTP/1.1", **host(server))
        assert 'textpro_model_faults{model="llm"} 3.0' in metrics[2]
    engine.close()


async def test_warming_up_answers_nobody() -> None:
    async with serving() as server:
        warming = asyncio.create_task(server.warm_up())
        await asyncio.sleep(0)
        assert not server.ready
        await warming
        assert server.ready
        assert len(server.hub) == 0


async def test_an_address_that_is_taken_names_the_fix() -> None:
    async with serving() as server:
        with pytest.raises(ConfigError, match="--port"):
            async with serving(port=server.port):
                pass


async def test_other_addresses_need_a_key() -> None:
    with pytest.raises(ConfigError, match="needs a key"):
        Server(ScriptedEngine({}), ServerOptions(host="0.0.0.0"))


async def test_send_buffers_are_small() -> None:
    async with serving() as server:
        (bound,) = server._listener.sockets  # nothing else shows it
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * 65_536


async def test_tls_for_page_and_socket(tmp_path: Path) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("localhost", "127.0.0.1")
    certificate, key = tmp_path / "a.crt", tmp_path / "a.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    made.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serving(tls_cert=str(certificate), tls_key=str(key)) as server:
        url = server.url("ws", "/v1/stream")
        assert url.startswith("wss://")
        own = server.url("http").rstrip("/")
        async with connect(url, ssl=trusting, origin=own) as opened:
            assert "session.started" in await opened.recv()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        assert b"200 OK" in await reader.read()
        writer.close()


def test_a_certificate_is_made_once(tmp_path: Path) -> None:
    if not subprocess.run(["which", "openssl"], capture_output=True, check=False).stdout:
        pytest.skip("no OpenSSL: apt-get install openssl")
    certificate, key = self_signed(["localhost", "127.0.0.1"], tmp_path)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    assert key.stat().st_mode & 0o077 == 0
    before = certificate.read_bytes()
    assert self_signed(["localhost", "127.0.0.1"], tmp_path) == (certificate, key)
    assert certificate.read_bytes() == before
    assert self_signed(["other"], tmp_path) != (certificate, key)


def test_without_openssl_the_flag_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="--tls-cert"):
        self_signed(["localhost"], tmp_path)


@pytest.mark.parametrize("options", [{"tls_cert": "a"}, {"tls_cert": "none", "tls_key": "none"}])
def test_a_certificate_that_cannot_be_used(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="--tls"):
        Server(ScriptedEngine({}), ServerOptions(port=0, **options))
