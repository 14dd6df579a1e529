"""Whole conversations with an LLM behind a URL; the server is scripted, the socket is real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from scripted import Script, chunks, sound
from scripted_llm_server import Hangs, Refuses, Says, ScriptedLlmServer
from stand import Stand

from textpro_stream.config import LlmOptions
from textpro_stream.events import (
    Event,
    Failed,
    Finished,
    ReplyEnded,
    ReplyStarted,
    SpeechStarted,
    TurnEnded,
    TurnLatency,
    WordsCommitted,
)
from textpro_stream.llm.remote import api, open_remote
from textpro_stream.runtime.device import DeviceThread
from textpro_stream.telemetry.trace import Unobserved

TWO_QUESTIONS = sound(
    ("silence", 0.5), ("voice", 1.0), ("silence", 1.5), ("voice", 1.0), ("silence", 1.5)
)
WORDS = [(" What", 0.8), (" time", 1.1), (" is it?", 1.4), (" And", 3.3), (" now?", 3.9)]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedLlmServer]:
    async with ScriptedLlmServer().running() as server:
        yield server


@pytest.fixture
async def stand(server: ScriptedLlmServer, device: DeviceThread) -> AsyncIterator[Stand]:
    options = LlmOptions(url=server.url)
    engine = open_remote(options)
    assert engine is not None
    yield Stand(device, Script(WORDS), engine.open(options, Unobserved()))
    await engine.close()


def of(events: list[Event], *kinds: type) -> list[Event]:
    return [event for event in events if isinstance(event, kinds)]


async def test_two_questions_are_answered(stand: Stand, server: ScriptedLlmServer) -> None:
    server.replies += [Says(("It is", " noon.")), Says(("Still", " noon."))]
    events = await stand.run(TWO_QUESTIONS)
    ended = [(e.turn, e.text, e.reason) for e in of(events, ReplyEnded)]
    assert ended == [(1, "It is noon.", "stop"), (2, "Still noon.", "stop")]
    assert [m["content"] for m in server.replied[-1].body["messages"][1:]] == [
        "What time is it?",
        "It is noon.",
        "And now?",
    ]
    marks = of(events, TurnLatency)[0].marks
    assert (marks["prompt_tokens"], marks["cached_tokens"]) == (40, 32)


async def test_hearing_goes_on_while_the_server_stands_still(
    stand: Stand, server: ScriptedLlmServer
) -> None:
    server.prefills += [Hangs()] * 10
    server.replies.append(Hangs())
    async with replace(stand, voice=None).open(live=True) as talk:
        for chunk in chunks(TWO_QUESTIONS):
            await talk.push(chunk)
        await talk.finish()
        events = [event async for event in talk]
    heard = of(events, SpeechStarted, WordsCommitted, TurnEnded)
    alone = await replace(stand, dialogue=None).run(TWO_QUESTIONS)
    assert [(type(e), e.turn, e.at) for e in heard] == [
        (type(e), e.turn, e.at) for e in of(alone, SpeechStarted, WordsCommitted, TurnEnded)
    ]
    ended = [(e.turn, e.reason) for e in of(events, ReplyEnded)]
    assert ended == [(1, "barge_in"), (2, "stop")]  # nobody was kept waiting
    async with asyncio.timeout(20):
        await server.replied[0].left.wait()


async def test_a_server_that_is_down_costs_a_reply_not_the_conversation(
    stand: Stand, server: ScriptedLlmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "PAUSES_S", (0.01, 0.01))
    server.replies += [Refuses(503, '{"error": "Loading model"}')] * 6  # 3 tries, twice
    events = await stand.run(TWO_QUESTIONS)
    (failed,) = of(events, Failed)
    assert (failed.turn, failed.code) == (1, "llm")
    assert failed.message == f"the LLM at {server.url} answered 503: Loading model"
    assert [(e.turn, e.reason) for e in of(events, ReplyEnded)] == [(1, "failed"), (2, "stop")]
    assert of(events, ReplyStarted)[0].turn == 2
    assert isinstance(events[-1], Finished)
