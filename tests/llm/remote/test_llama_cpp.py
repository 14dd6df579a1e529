"""The LLM by URL over a real llama.cpp server and real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace

import llama_cpp_server
import pytest
from remote_talk import ask, draw, turn

from textpro_stream.commands import Add, Configure
from textpro_stream.config import LlmOptions
from textpro_stream.contracts import (
    GenerationEnd,
    Message,
    OpenTurn,
    Playout,
    ReplyOptions,
    TextDelta,
    Tool,
)
from textpro_stream.llm.remote import RemoteDialogue, RemoteEngine
from textpro_stream.telemetry.trace import Unobserved

pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(bool(llama_cpp_server.MISSING), reason=llama_cpp_server.MISSING),
]

QUESTION = "can you tell me how to bake bread for four people in a small oven that is not very hot"
CONTEXT = 512


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with llama_cpp_server.serving(context=CONTEXT) as address:
        yield address


@pytest.fixture
def options(address: str) -> LlmOptions:
    return LlmOptions(url=address, max_tokens=12)


async def until_read(dialogue: RemoteDialogue, number: int, words: str) -> None:
    """Have words read along, to the end: the server tells when nothing is left to read."""
    await dialogue.follow(turn(number, words))
    reading = [task for task in asyncio.all_tasks() if task.get_name() == "prefill"]
    await asyncio.wait_for(asyncio.gather(*reading), 60)


async def test_the_server_is_known_for_what_it_is(engine: RemoteEngine, address: str) -> None:
    assert await engine.check() == f"smollm2 at {address} by llama.cpp, {CONTEXT} tokens of context"


async def test_what_was_read_along_is_cached_when_the_reply_is_asked_for(
    dialogue: RemoteDialogue,
) -> None:
    words = QUESTION.split()
    for n in (6, 12, len(words)):
        await until_read(dialogue, 1, " ".join(words[:n]))
    await dialogue.follow(turn(1, f"{QUESTION}?", over=True))
    drawn = await draw(dialogue)
    assert drawn.text
    end = drawn.end
    assert end is not None
    assert end.prompt_tokens is not None
    assert end.cached_tokens is not None
    # All but the question mark and the marks before the reply.
    assert end.prompt_tokens - 10 <= end.cached_tokens < end.prompt_tokens


async def test_without_reading_along_the_question_is_read_at_the_end(
    engine: RemoteEngine, options: LlmOptions
) -> None:
    dialogue = engine.open(replace(options, prefill=False), Unobserved())
    await ask(dialogue, 1, "Hello")
    await dialogue.follow(turn(2, QUESTION))
    await dialogue.follow(turn(2, f"{QUESTION}?", over=True))
    end = (await draw(dialogue, 2)).end
    assert end is not None
    assert end.prompt_tokens is not None
    assert end.cached_tokens is not None
    assert end.prompt_tokens - end.cached_tokens > 15
    await dialogue.close()


async def test_a_reply_that_was_cut_off_is_remembered_as_it_was_heard(
    dialogue: RemoteDialogue,
) -> None:
    await dialogue.follow(turn(1, "Tell me a long story about a whale.", over=True))
    heard = ""
    async with aclosing(dialogue.reply(1, ReplyOptions(max_tokens=400))) as reply:
        async for delta in reply:
            assert isinstance(delta, TextDelta)
            heard += delta.text
            if len(heard) > 10:
                break
    await dialogue.close_turn(Playout(8))
    assert dialogue.messages[-1] == Message("a1", "assistant", heard[:8])
    # The server has stopped: it would need half a minute for what was not wanted any more.
    end = (await asyncio.wait_for(ask(dialogue, 2, "Stop. What is two plus two?"), 15)).end
    assert isinstance(end, GenerationEnd)
    assert end.cached_tokens
    assert [message.id for message in dialogue.messages] == ["u1", "a1", "u2", "a2"]


async def test_tools_and_their_results_are_understood(dialogue: RemoteDialogue) -> None:
    clock = Tool("clock", "Tells the time.", '{"type": "object", "properties": {}}')
    await dialogue.edit(Configure(tools=(clock,)))
    await ask(dialogue, 1, "What time is it?")
    await dialogue.edit(Add(Message("r", "tool", '{"time": "noon"}')))
    await dialogue.follow(OpenTurn(2, over=True))
    assert (await draw(dialogue, 2)).end is not None


async def test_a_conversation_longer_than_the_context_goes_on(dialogue: RemoteDialogue) -> None:
    for number in range(1, 5):
        await ask(dialogue, number, f"{QUESTION} " * 8)
    assert dialogue.messages[0].id != "u1"
    assert dialogue.messages[-1].id == "a4"


async def test_a_prompt_that_does_not_fit_is_found_out_and_cut(dialogue: RemoteDialogue) -> None:
    # A token for every other character: more than is guessed before the server has counted any.
    await dialogue.follow(turn(1, "7 3 " * 450, over=True))
    assert (await draw(dialogue)).text
