"""How a turn sounds, from the prosody stage to what the LLM reads, and the draft of its reply."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from caller import ANGRY
from scripted import CALM, chunks, sound
from stand import Stand
from tiny_llm import write_model

from textpro_stream.config import LlmOptions
from textpro_stream.events import ReplyEnded, TurnEnded, TurnLatency, TurnTone
from textpro_stream.llm import LanguageModel
from textpro_stream.llm.local import LocalDialogue
from textpro_stream.runtime.device import DeviceThread
from textpro_stream.telemetry.trace import Unobserved

QUESTION = sound(("silence", 0.5), ("voice", 1.0), ("silence", 1.5))


async def test_a_reply_is_drafted_to_the_tone_of_the_words_known_then(stand: Stand) -> None:
    louder = replace(ANGRY, pitch=3.0, loudness=6.0)
    stand = replace(stand, tones=(ANGRY, louder))
    events = await stand.run(QUESTION)
    assert [e.tone for e in events if isinstance(e, TurnTone)] == [louder]
    assert stand.dialogue.begun == [" What time is it?"]  # once: it is called the same
    assert stand.dialogue.read[-1].tone == ANGRY


async def test_words_that_are_read_along_have_no_tone_yet(stand: Stand) -> None:
    stand = replace(stand, tones=(ANGRY, ANGRY))
    await stand.run(QUESTION)
    along = [turn for turn in stand.dialogue.read if turn.text and not turn.over]
    assert along
    assert all(turn.tone is None for turn in along)


async def test_a_draft_to_another_tone_is_made_again(stand: Stand) -> None:
    stand = replace(stand, tones=(CALM, ANGRY))
    events = await stand.run(QUESTION)
    assert stand.dialogue.begun == [" What time is it?"] * 2
    (latency,) = [e for e in events if isinstance(e, TurnLatency)]
    assert latency.marks["spec_waste"] > 0
    (ended,) = [e for e in events if isinstance(e, ReplyEnded)]
    assert ended.text.strip() == "It is noon. Really."


async def test_who_goes_on_is_heard_anew(stand: Stand) -> None:
    audio = sound(("silence", 0.5), ("voice", 1.0), ("silence", 0.4), ("voice", 0.8))
    stand = replace(stand, tones=(ANGRY, CALM))
    await stand.run(audio)
    told = [(turn.over, turn.named) for turn in stand.dialogue.read if turn.text]
    assert (True, "anger") in told
    assert told[-1] == (True, "neutral")


@pytest.mark.parametrize("fusion", ["auto", "text"])
async def test_the_llm_reads_it_behind_the_words(
    fusion: str, stand: Stand, device: DeviceThread, tmp_path: Path
) -> None:
    write_model(tmp_path, "Llama")
    options = LlmOptions(dtype="float32", context=256, max_tokens=4, fusion=fusion)
    model = LanguageModel.load(tmp_path, options, torch.device("cpu"))
    dialogue = LocalDialogue(model, options, Unobserved(), device)
    stand = replace(stand, tones=(ANGRY, ANGRY), dialogue=dialogue)
    async with stand.open() as talk:
        for chunk in chunks(QUESTION):
            await talk.push(chunk)
        await talk.say("And in Rome?")  # typed words have no tone
        await talk.finish()
        ended = [e.transcript.strip() async for e in talk if isinstance(e, TurnEnded)]
    assert dialogue._dialogue is not None
    entries = dialogue._dialogue.snapshot().entries
    users = [entry for entry in entries if entry.message.role == "user"]
    tag = " (I sound angry.)" if fusion == "auto" else ""
    read = [model.chat.decode([row for row in e.rows if isinstance(row, int)]) for e in users]
    assert read == [f"What time is it?{tag}", "And in Rome?"]
    assert [e.message.text for e in users] == ended == ["What time is it?", "And in Rome?"]
