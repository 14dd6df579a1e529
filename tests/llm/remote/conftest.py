"""A scripted server, and a dialogue with it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from scripted_llm_server import ScriptedLlmServer

from textpro_stream.config import LlmOptions
from textpro_stream.llm.remote import RemoteDialogue, RemoteEngine, open_remote
from textpro_stream.telemetry.trace import Unobserved


@pytest.fixture
async def server() -> AsyncIterator[ScriptedLlmServer]:
    async with ScriptedLlmServer().running() as server:
        yield server


@pytest.fixture
def options(server: ScriptedLlmServer) -> LlmOptions:
    return LlmOptions(url=server.url, system_prompt="Be brief.")


@pytest.fixture
async def engine(options: LlmOptions) -> AsyncIterator[RemoteEngine]:
    engine = open_remote(options)
    assert engine is not None
    yield engine
    await engine.close()


@pytest.fixture
async def dialogue(engine: RemoteEngine, options: LlmOptions) -> AsyncIterator[RemoteDialogue]:
    dialogue = engine.open(options, Unobserved())
    assert isinstance(dialogue, RemoteDialogue)
    yield dialogue
    await dialogue.close()
