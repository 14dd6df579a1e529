"""The lean route over real sockets, with scripted models in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from scripted import sound
from server_launcher import ScriptedEngine
from server_process import pcm, until

from textpro_stream.client import Session, connect
from textpro_stream.config import ServerOptions
from textpro_stream.contracts import Message
from textpro_stream.server.app import Server

WORDS = 15  # of each reply: one and a half seconds of audio
WHOLE = "".join(f" word{n}," for n in range(WORDS))


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[ScriptedEngine, Session]]:
    """A session with a server whose replies speech may not stop."""
    engine = ScriptedEngine({"turn": {"barge_in": False}, "pieces": WORDS})
    with closing(engine):
        async with (
            Server(engine, ServerOptions(port=0)) as server,
            connect(server.url("ws", "/v1/stream")) as session,
        ):
            yield engine, session


async def speak_over(session: Session, voice_s: float) -> list[dict[str, Any]]:
    """Ask, and speak when all of the reply was given out and most of it is still to be heard."""
    await session.say("hello")
    seen = await until(session, "reply.given")
    await session.send(pcm(sound(("voice", voice_s))))
    seen += await until(session, "reply.done")
    await session.end()
    return seen + [message async for message in session]


async def test_a_client_may_allow_speech_to_stop_replies_where_the_server_does_not() -> None:
    async with talking() as (engine, session):
        await session.command("set", barge_in=True)
        seen = await speak_over(session, 1.2)  # long enough for words, which are answered
        done = next(m for m in seen if m["type"] == "reply.done")
        assert done["reason"] == "barge_in"
        assert WHOLE.startswith(done["text"])
        assert done["text"] != WHOLE
        assert Message("a1", "assistant", done["text"]) in engine.dialogues[0].messages


@pytest.mark.slow(reason="a reply of one and a half seconds is heard out in real time")
async def test_where_speech_may_not_stop_replies_they_are_heard_out() -> None:
    async with talking() as (engine, session):
        seen = await speak_over(session, 0.6)
        (done,) = (m for m in seen if m["type"] == "reply.done")
        assert (done["reason"], done["text"]) == ("stop", WHOLE)
        began = next(m["wall_s"] for m in seen if m["type"] == "speech.audio")
        assert done["wall_s"] - began > 0.95 * WORDS / 10
        assert Message("a1", "assistant", WHOLE) in engine.dialogues[0].messages


async def test_who_only_listens_hears_announcements_from_the_greeting_on() -> None:
    engine = ScriptedEngine({})
    with closing(engine):
        async with (
            Server(engine, ServerOptions(port=0)) as server,
            connect(server.url("ws", "/v1/stream")) as session,
        ):
            await until(session, "session.started")
            assert len(server.hub) == 1
            await server.hub.say("Dinner is ready.")
            done = (await until(session, "reply.done"))[-1]
            assert done["text"] == "Dinner is ready."
