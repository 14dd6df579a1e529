from __future__ import annotations

import asyncio

import pytest
from scripted_hub import ScriptedHub

from textpro_stream.errors import StageError
from textpro_stream.server.mqtt import commands
from textpro_stream.server.mqtt.commands import PAYLOAD_MAX, SAY_MAX, Commands


@pytest.mark.parametrize(
    ("name", "payload", "done"),
    [
        ("say", "  dinner\n is ready ", "say dinner is ready"),
        ("say", "Grüße!", "say Grüße!"),
        ("stop", "", "stop"),
        ("stop", "PRESS", "stop"),
        ("listen", "off", "listen False"),
        ("listen", "ON", "listen True"),
        ("volume", "40", "volume 0.4"),
        ("volume", "100.0", "volume 1.0"),
        ("volume", " 0 ", "volume 0.0"),
    ],
)
async def test_a_command_is_done(name: str, payload: str, done: str) -> None:
    hub = ScriptedHub()
    assert await Commands(hub).obey(name, payload.encode()) == ""
    assert hub.log == [done]


@pytest.mark.parametrize(
    ("name", "payload", "complaint"),
    [
        ("say", b"", "say: there is no text"),
        ("say", b" \n ", "say: there is no text"),
        ("say", b"a" * (SAY_MAX + 1), f"say: {SAY_MAX + 1} characters, at most {SAY_MAX}"),
        ("say", b"a" * (PAYLOAD_MAX + 1), f"say: {PAYLOAD_MAX + 1} bytes, at most {PAYLOAD_MAX}"),
        ("say", b"\xff\xfe", "say: not UTF-8"),
        ("listen", b"maybe", "listen: send ON or OFF"),
        ("listen", b"", "listen: send ON or OFF"),
        ("volume", b"loud", "volume: send a number from 0 to 100"),
        ("volume", b"101", "volume: send a number from 0 to 100"),
        ("volume", b"-1", "volume: send a number from 0 to 100"),
        ("volume", b"nan", "volume: send a number from 0 to 100"),
        ("volume", b"1e999", "volume: send a number from 0 to 100"),
    ],
)
async def test_a_bad_payload_is_refused_and_says_what_would_do(
    name: str, payload: bytes, complaint: str
) -> None:
    hub = ScriptedHub()
    assert await Commands(hub).obey(name, payload) == complaint
    assert hub.log == []


async def test_saying_something_to_nobody_is_a_complaint() -> None:
    hub = ScriptedHub(sessions=0)
    assert "nobody is connected" in await Commands(hub).obey("say", b"hello")


async def test_a_deed_that_fails_is_a_complaint_and_no_more() -> None:
    hub = ScriptedHub(raises=StageError("no voice"))
    assert await Commands(hub).obey("say", b"hello") == "say: no voice"
    hub = ScriptedHub(raises=ValueError("a\nb"))
    assert await Commands(hub).obey("say", b"hello") == "say: unexpected ValueError: a b"


async def test_a_deed_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "COMMAND_S", 0.01)
    hub = ScriptedHub(held=asyncio.Event())
    assert (await Commands(hub).obey("say", b"hello")).startswith("say: given up")
