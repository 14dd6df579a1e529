"""The local LLM behind its port: each move a step of the device, a reply drawn token by token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

import pytest
import torch
from caller import typed

from textpro_stream.commands import Add, Configure
from textpro_stream.contracts import (
    GenerationEnd,
    Message,
    OpenTurn,
    Playout,
    ReplyOptions,
    TextDelta,
)
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.llm import LanguageModel, LocalEngine
from textpro_stream.ports import Dialogue
from textpro_stream.runtime.device import DeviceThread, Lane, Step
from textpro_stream.telemetry.trace import Unobserved

Load = Callable[..., LanguageModel]
PLAIN = ReplyOptions()


@pytest.fixture
async def device() -> AsyncIterator[DeviceThread]:
    device = DeviceThread("test device", torch.inference_mode)
    yield device
    await asyncio.to_thread(device.close)


@pytest.fixture
def model(load: Load) -> LanguageModel:
    return load("Llama", context=400)


@pytest.fixture
def dialogue(model: LanguageModel, device: DeviceThread) -> Dialogue:
    return LocalEngine(model, device).open(model.options, Unobserved())


def turn(number: int, text: str = "", *, over: bool = False) -> OpenTurn:
    return OpenTurn(number, (typed(text),) if text else (), over=over)


async def draw(dialogue: Dialogue, options: ReplyOptions = PLAIN) -> tuple[str, GenerationEnd]:
    """A whole reply."""
    text, end = "", None
    async for delta in dialogue.reply(1, options):
        match delta:
            case TextDelta(text=piece):
                text += piece
            case GenerationEnd():
                end = delta
    assert end is not None
    return text, end


async def ask(dialogue: Dialogue, number: int, text: str) -> str:
    await dialogue.follow(turn(number, text, over=True))
    said, _ = await draw(dialogue)
    await dialogue.close_turn(Playout())
    return said


async def test_a_turn_from_its_first_words_to_its_end(dialogue: Dialogue) -> None:
    assert dialogue.tokens_cached == 0
    await dialogue.follow(turn(0))
    opened = dialogue.tokens_cached
    assert opened > 0  # what stands before the first words is read already
    await dialogue.follow(turn(1, "How long"))
    await dialogue.follow(turn(1, "How long should I"))
    read = dialogue.tokens_cached
    await dialogue.follow(turn(1, "How long should I boil it?", over=True))
    ready = dialogue.tokens_cached
    assert opened < read < ready
    text, end = await draw(dialogue)
    assert text
    assert (end.prompt_tokens, end.cached_tokens) == (ready, read)
    await dialogue.close_turn(Playout())
    assert dialogue.tokens_cached > ready
    await dialogue.rest()
    assert dialogue.tokens_cached == 0
    assert await ask(dialogue, 2, "And rice?")


async def test_a_reply_ends_when_the_speaker_goes_on(dialogue: Dialogue) -> None:
    await dialogue.follow(turn(1, "How long", over=True))
    async with aclosing(dialogue.reply(1, PLAIN)) as reply:
        assert isinstance(await anext(reply), TextDelta)
        await dialogue.follow(turn(1, "How long", over=True))  # nothing new: it goes on
        assert isinstance(await anext(reply), TextDelta)
        await dialogue.follow(turn(1, "How long should I"))
        assert [delta async for delta in reply] == []
    await dialogue.follow(turn(1, "How long should I wait?", over=True))
    assert (await draw(dialogue))[0]


async def test_a_reply_that_was_left_is_the_same_when_drawn_again(
    model: LanguageModel, device: DeviceThread
) -> None:
    model = replace(model, options=replace(model.options, temperature=0.8))
    dialogue = LocalEngine(model, device).open(model.options, Unobserved())
    await dialogue.follow(turn(1, "How long?", over=True))
    async with aclosing(dialogue.reply(1, PLAIN)) as reply:
        first = await anext(reply)
    assert isinstance(first, TextDelta)
    whole, end = await draw(dialogue)
    assert whole.startswith(first.text)
    assert await draw(dialogue) == (whole, end)


async def test_hearing_comes_between_two_tokens(dialogue: Dialogue, device: DeviceThread) -> None:
    @dataclass(frozen=True)
    class Hear(Step[None]):
        lane = Lane.HEAR

        def run(self) -> None:
            heard.append(len(drawn))

    heard: list[int] = []
    drawn: list[object] = []
    await dialogue.follow(turn(1, "How long?", over=True))
    async for delta in dialogue.reply(1, PLAIN):
        drawn.append(delta)
        await device.run(Hear())
    assert heard == list(range(1, len(drawn) + 1))
    assert len(drawn) > 2


async def test_two_dialogues_do_not_hear_each_other(
    model: LanguageModel, device: DeviceThread
) -> None:
    engine = LocalEngine(model, device)
    questions = ["How long?", "Will it rain tomorrow?", "And rice?"]
    alone = []
    for question in questions:
        alone.append(await ask(engine.open(model.options, Unobserved()), 1, question))
    together = await asyncio.gather(
        *(ask(engine.open(model.options, Unobserved()), 1, question) for question in questions)
    )
    assert list(together) == alone


async def test_what_cannot_be_is_told_and_the_dialogue_goes_on(
    model: LanguageModel, device: DeviceThread
) -> None:
    engine = LocalEngine(model, device)
    options = replace(model.options, system_prompt="rice " * 500)
    dialogue = engine.open(options, Unobserved())
    for _ in range(2):
        with pytest.raises(ConfigError, match="too small for a system prompt"):
            await dialogue.follow(turn(0))
    assert dialogue.tokens_cached == 0
    await dialogue.rest()
    dialogue = engine.open(model.options, Unobserved())
    with pytest.raises(ConfigError, match="too small"):
        await dialogue.edit(Configure(llm=options))
    with pytest.raises(StageError, match="longer than"):
        await dialogue.follow(turn(1, "rice " * 500, over=True))
    await dialogue.follow(turn(1, "rice " * 500, over=True))  # told once
    assert (await draw(dialogue))[1].prompt_tokens
    with pytest.raises(ConfigError, match="too small"):
        await draw(dialogue, ReplyOptions(instructions="rice " * 500))
    assert (await draw(dialogue))[1].prompt_tokens


async def test_what_holds_for_one_reply_holds_for_no_other(dialogue: Dialogue) -> None:
    await dialogue.edit(Add(Message("m", "user", "How long?")))
    await dialogue.follow(turn(1, over=True))
    usual, end = await draw(dialogue)
    short = ReplyOptions(
        instructions="Be kind, and say it in the north of the kitchen.", max_tokens=3
    )
    other, other_end = await draw(dialogue, short)
    assert other != usual
    assert other_end.reason == "length"
    assert other_end.prompt_tokens != end.prompt_tokens
    await dialogue.close_turn(None)
    await dialogue.follow(turn(2, over=True))
    assert (await draw(dialogue))[0] == usual


@pytest.mark.parametrize("remember", [True, False])
async def test_an_aside_leaves_only_what_is_to_be_remembered(
    remember: bool, dialogue: Dialogue
) -> None:
    await dialogue.follow(turn(1, over=True))
    rows = dialogue.tokens_cached
    messages = (Message("x", "user", "Will it rain tomorrow?"),)
    text, _ = await draw(dialogue, ReplyOptions(messages=messages, remember=remember))
    assert text
    assert dialogue.tokens_cached > rows
    await dialogue.close_turn(Playout())
    assert (dialogue.tokens_cached > rows) == remember


async def test_closing_gives_the_memory_back(dialogue: Dialogue, device: DeviceThread) -> None:
    await dialogue.close()  # of one that was never opened
    await ask(dialogue, 1, "How long?")
    await dialogue.close()
    await dialogue.rest()  # behind it on the device
    assert dialogue.tokens_cached == 0


async def test_conversations_that_decode_at_once_say_what_each_would_say_alone(
    model: LanguageModel, device: DeviceThread
) -> None:
    questions = ["How long?", "And rice for two people, please?", "Why is the sky blue at noon?"]
    engine = LocalEngine(model, device)
    alone = []
    for question in questions:
        dialogue = engine.open(model.options, Unobserved())
        await dialogue.follow(turn(1, question, over=True))
        alone.append(await draw(dialogue))
    together = [engine.open(model.options, Unobserved()) for _ in questions]
    for dialogue, question in zip(together, questions, strict=True):
        await dialogue.follow(turn(1, question, over=True))
    assert await asyncio.gather(*map(draw, together)) == alone
