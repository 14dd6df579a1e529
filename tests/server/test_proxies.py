"""Whose address counts, and what a proxy may not open."""

from __future__ import annotations

from contextlib import closing

import pytest
from server_launcher import ScriptedEngine
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus

from textpro_stream.client import way_to
from textpro_stream.config import ServerOptions
from textpro_stream.errors import ConfigError
from textpro_stream.server.app import Server
from textpro_stream.server.proxies import Proxies

KEY = "a-key-of-more-than-22-characters"


@pytest.mark.parametrize(
    ("trusted", "peer", "headers", "person"),
    [
        ([], "127.0.0.1", [("X-Forwarded-For", "9.9.9.9")], "127.0.0.1"),
        (["127.0.0.1"], "8.8.8.8", [("X-Forwarded-For", "9.9.9.9")], "8.8.8.8"),
        (["127.0.0.1"], "127.0.0.1", [], "127.0.0.1"),
        (["127.0.0.1"], "127.0.0.1", [("X-Forwarded-For", "9.9.9.9")], "9.9.9.9"),
        # What the person wrote comes first, what our proxy added comes last.
        (["127.0.0.1"], "127.0.0.1", [("X-Forwarded-For", "1.1.1.1, 9.9.9.9")], "9.9.9.9"),
        (["127.0.0.1"], "::ffff:127.0.0.1", [("X-Forwarded-For", "9.9.9.9:4711")], "9.9.9.9"),
        (["10.0.0.0/8"], "10.0.0.1", [("X-Forwarded-For", "9.9.9.9, 10.0.0.7")], "9.9.9.9"),
        (["::1"], "::1", [("Forwarded", 'for="[2001:db8::1]:4711";proto=https')], "2001:db8::1"),
        (["::1"], "::1", [("X-Real-IP", "9.9.9.9")], "9.9.9.9"),
        (["::1"], "::1", [("X-Forwarded-For", "_hidden")], "_hidden"),
    ],
)
def test_the_person_is_whom_our_own_proxies_name(
    trusted: list[str], peer: str, headers: list[tuple[str, str]], person: str
) -> None:
    assert Proxies(trusted).person(peer, Headers(headers)) == person


def test_a_proxy_is_an_address() -> None:
    with pytest.raises(ConfigError, match="--proxy nginx"):
        Proxies(["nginx"])


async def knock(server: Server, key: str, person: str) -> int:
    """The status that somebody behind the proxy gets."""
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": person}
    try:
        url = server.url("ws", "/v1/stream")
        async with connect(url, additional_headers=headers, **way_to(url)):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def test_guesses_of_one_lock_nobody_else_out_and_a_right_key_never() -> None:
    engine = ScriptedEngine({})
    options = ServerOptions(port=0, api_key=KEY, proxies="127.0.0.1")
    with closing(engine):
        async with Server(engine, options) as server:
            seen = [await knock(server, "wrong", "9.9.9.9") for _ in range(12)]
            assert seen == [401] * 10 + [429] * 2
            assert await knock(server, "wrong", "7.7.7.7") == 401
            assert await knock(server, KEY, "9.9.9.9") == 101


@pytest.mark.parametrize(("key", "status"), [(KEY, 401), ("", 403)])
async def test_figures_are_not_for_those_behind_a_proxy(key: str, status: int) -> None:
    import urllib.error
    import urllib.request
    from asyncio import to_thread

    def ask(url: str, **headers: str) -> int:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            return int(opener.open(urllib.request.Request(url, headers=headers)).status)
        except urllib.error.HTTPError as error:
            return error.code

    engine = ScriptedEngine({})
    with closing(engine):
        async with Server(engine, ServerOptions(port=0, api_key=key)) as server:
            url = server.url("http", "/metrics")
            assert await to_thread(ask, url) == 200
            assert await to_thread(ask, url, **{"X-Forwarded-For": "9.9.9.9"}) == status
            if key:
                mine = {"X-Forwarded-For": "9.9.9.9", "Authorization": f"Bearer {key}"}
                assert await to_thread(ask, url, **mine) == 200
