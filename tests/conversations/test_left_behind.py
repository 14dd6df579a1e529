"""A conversation that was left leaves nothing: no task, no recognizer, no memory of the LLM."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from dataclasses import replace

import pytest
from scripted import Call, Script, ScriptedDialogue, ScriptedRecognizer, chunks, sound

from textpro_stream.commands import Rest

TALK = sound(("silence", 0.5), ("voice", 1.0), ("silence", 0.4))


class Watched(Script):
    """A script that knows which of its recognizers are still alive."""

    def __init__(self, words: list[tuple[str, float]]) -> None:
        super().__init__(words)
        self.alive: weakref.WeakSet[ScriptedRecognizer] = weakref.WeakSet()

    def open(self, start: int) -> ScriptedRecognizer:
        recognizer = super().open(start)
        self.alive.add(recognizer)
        return recognizer


def tasks() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("frames", [8, 12, 19])  # in mid-word, in a pause, in a draft
async def test_leaving_frees_the_recognizer_and_the_cache(stand, frames: int) -> None:
    script = Watched(stand.script.words)
    dialogue = ScriptedDialogue()
    before = tasks()
    async with replace(stand, script=script, dialogue=dialogue).open(live=True) as talk:
        for chunk in chunks(TALK)[:frames]:
            await talk.push(chunk)
        async with asyncio.timeout(10):
            while not talk.position:  # noqa: ASYNC110 - there is no event for what is not heard yet
                await asyncio.sleep(0.01)
    assert tasks() == before
    await stand.device.run(Call(lambda: None))  # whatever was put there last is done
    gc.collect()
    assert talk.position > 0  # somebody may still hold the conversation itself
    assert not script.alive
    assert dialogue.closed


async def test_leaving_in_the_middle_of_a_step_frees_as_well(stand) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow() -> None:
        entered.set()
        leave.wait(5)

    dialogue = ScriptedDialogue(step=slow)
    before = tasks()
    async with replace(stand, dialogue=dialogue).open(live=True) as talk:
        await talk.say("Hello")
        await asyncio.to_thread(entered.wait, 5)
    assert tasks() == before
    leave.set()
    await stand.device.run(Call(lambda: None))
    assert dialogue.closed
    assert dialogue.drawn <= 1  # the step ended, and no other began


async def test_a_conversation_that_rests_frees_its_cache_and_goes_on(stand) -> None:
    dialogue = ScriptedDialogue()
    async with replace(stand, dialogue=dialogue).open() as talk:
        await talk.push(Rest())
        await talk.say("Hello")
        await talk.finish()
        events = [type(event).__name__ async for event in talk]
    assert dialogue.rests == 1
    assert "ReplyGiven" in events
