"""A spoken talk of ten turns, two of them spoken over a reply, with a real llama.cpp server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest
import soxr
from llama_cpp_server import MISSING, serving
from numpy.typing import NDArray

from textpro_stream.config import LlmOptions, Settings
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.events import Event, Failed, ReplyAudio, ReplyEnded, TurnEnded, TurnLatency
from textpro_stream.pipeline import Conversation, Engine

pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]

SAID = [
    "What is the capital of France?",
    "How many people live there?",
    "Tell me a long story about a dog and a cat.",
    "Wait, please stop. What color is the sky?",  # over the story
    "And why is that so?",
    "What can I cook with eggs and rice?",
    "How long should I boil an egg?",
    "Tell me everything that you know about the moon.",
    "No, stop. What day comes after Monday?",  # over that
    "Thank you, that is all for today.",
]
OVER = (3, 8)
STEP = SAMPLE_RATE // 10


class Talker:
    """Speaks into a conversation at the pace of speech, and reads what it says."""

    def __init__(self, talk: Conversation) -> None:
        self.events: list[Event] = []
        self._talk, self._at, self._began = talk, 0, time.monotonic()
        self._changed = asyncio.Event()
        self._voice: list[NDArray[np.float32]] = []

    async def microphone(self) -> None:
        while True:
            samples = self._voice.pop(0) if self._voice else np.zeros(STEP, np.float32)
            await self._talk.push(AudioChunk(samples, self._at))
            self._at += len(samples)
            await asyncio.sleep(max(0, self._began + self._at / SAMPLE_RATE - time.monotonic()))

    async def read(self) -> None:
        async for event in self._talk:
            self.events.append(event)
            self._changed.set()

    def say(self, audio: NDArray[np.float32]) -> None:
        whole = np.pad(audio, (0, -len(audio) % STEP))
        self._voice += list(whole.reshape(-1, STEP))

    async def until(self, kind: type, count: int) -> None:
        async with asyncio.timeout(60):
            while sum(isinstance(event, kind) for event in self.events) < count:
                self._changed.clear()
                await self._changed.wait()


async def spoken(engine: Engine, text: str) -> NDArray[np.float32]:
    assert engine.voice is not None
    chunks = [c.samples async for c in engine.voice.speak(text, start=0, text_start=0)]
    return np.asarray(soxr.resample(np.concatenate(chunks), engine.voice.rate_hz, SAMPLE_RATE))


def transcript(events: list[Event]) -> str:
    lines = []
    for event in events:
        match event:
            case TurnEnded(transcript=text):
                lines.append(f"user:      {text.strip()}")
            case ReplyEnded(text=text, reason=reason):
                lines.append(f"assistant: {text.strip()} [{reason}]")
            case TurnLatency(marks=marks) if "prompt_tokens" in marks:
                cached, prompt = marks.get("cached_tokens"), marks["prompt_tokens"]
                wait = marks.get("server_perceived", float("nan"))
                lines.append(f"           ({wait:.2f} s; {cached:.0f} of {prompt:.0f} cached)")
            case _:
                pass
    return "\n".join(lines)


async def test_ten_turns_two_of_them_over_a_reply() -> None:
    with serving() as url:
        options = LlmOptions(url=url, max_tokens=60)
        settings = replace(Settings(), llm=options)
        async with await Engine.load(settings) as engine:
            assert engine.llm is not None
            said = [await spoken(engine, text) for text in SAID]
            async with engine.open(live=True) as talk:
                talker = Talker(talk)
                tasks = [asyncio.create_task(t) for t in (talker.microphone(), talker.read())]
                for i, audio in enumerate(said):
                    if i in OVER:
                        heard = sum(isinstance(e, ReplyAudio) for e in talker.events)
                        await talker.until(ReplyAudio, heard + 1)
                    else:
                        await talker.until(TurnLatency, i)
                    talker.say(audio)
                    await talker.until(TurnEnded, i + 1)
                await talker.until(TurnLatency, len(said))
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            print(transcript(talker.events))
    events = talker.events
    assert not [event.message for event in events if isinstance(event, Failed)]
    ended = [event for event in events if isinstance(event, TurnEnded)]
    assert [event.replies for event in ended] == [True] * len(SAID)
    reasons = [event.reason for event in events if isinstance(event, ReplyEnded)]
    assert reasons.count("barge_in") == len(OVER)
    assert len(reasons) == len(SAID)
    marks = [event.marks for event in events if isinstance(event, TurnLatency)]
    told = [m for m in marks if "cached_tokens" in m]
    assert told
    assert all(m["cached_tokens"] > 0.5 * m["prompt_tokens"] for m in told[1:])
