"""The tone of a turn, told to a model behind a URL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from caller import ANGRY
from remote_talk import draw, turn
from scripted_llm_server import ScriptedLlmServer

from textpro_stream.commands import Add, Remove
from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Message, OpenTurn, Playout, ReplyOptions, ToneReading
from textpro_stream.llm.remote import RemoteDialogue, RemoteEngine, open_remote
from textpro_stream.telemetry.trace import Unobserved

CALM = ToneReading(0.3, None, None, None, None, {"neutral": 1.0})


@pytest.fixture
async def told(server: ScriptedLlmServer) -> AsyncIterator[RemoteDialogue]:
    options = LlmOptions(url=server.url, system_prompt="Be brief.", fusion="tags")
    engine = open_remote(options)
    assert engine is not None
    assert "I sound angry" in engine.notice
    dialogue = engine.open(options, Unobserved())
    assert isinstance(dialogue, RemoteDialogue)
    yield dialogue
    await dialogue.close()
    await engine.close()


def said(number: int, text: str, tone: ToneReading | None = ANGRY) -> OpenTurn:
    return replace(turn(number, text, over=True), tone=tone)


def users(server: ScriptedLlmServer) -> list[str]:
    """What the last prompt says in the user's place."""
    messages = server.replied[-1].body["messages"]
    return [m["content"] for m in messages if m["role"] == "user"]


async def test_a_turn_says_how_it_sounded(told: RemoteDialogue, server: ScriptedLlmServer) -> None:
    await told.follow(said(1, " How long?"))
    await draw(told)
    await told.close_turn(Playout())
    assert users(server) == ["How long? (I sound angry.)"]
    assert told.messages[0] == Message("u1", "user", "How long?")
    await told.follow(said(2, " And rice?", CALM))
    await draw(told, 2)
    await told.close_turn(Playout())
    assert users(server) == ["How long? (I sound angry.)", "And rice?"]


async def test_what_is_read_along_has_no_tone_yet(
    told: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await told.follow(replace(turn(1, "How long"), tone=ANGRY))
    await server.until(n_prefills=1)
    assert server.prefilled[0].words == "How long"


async def test_a_draft_to_another_tone_is_void(told: RemoteDialogue) -> None:
    await told.follow(said(1, "How long?"))
    reply = told.reply(1, ReplyOptions())
    assert await anext(reply)
    await told.follow(said(1, "How long?", replace(ANGRY, pitch=2.0)))
    assert await anext(reply)
    await told.follow(said(1, "How long?", CALM))
    assert [delta async for delta in reply] == []


async def test_beside_the_talk_it_is_told_too(
    told: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await told.follow(said(1, "How long?"))
    await draw(told)
    await told.close_turn(Playout())
    await draw(told, 2, ReplyOptions(remember=False))
    assert users(server) == ["How long? (I sound angry.)"]


async def test_what_is_removed_takes_its_tone_along(
    told: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await told.follow(said(1, "How long?"))
    await draw(told)
    await told.close_turn(Playout())
    await told.edit(Remove("u1"))
    await told.edit(Add(Message("u1", "user", "Hello."), after=""))
    await told.follow(said(2, "And now?", None))
    await draw(told, 2)
    assert users(server) == ["Hello.", "And now?"]


async def test_unless_asked_for_it_reads_words_only(
    dialogue: RemoteDialogue, engine: RemoteEngine, server: ScriptedLlmServer
) -> None:
    await dialogue.follow(said(1, "How long?"))
    await draw(dialogue)
    assert users(server) == ["How long?"]
    assert "words only" in engine.notice
