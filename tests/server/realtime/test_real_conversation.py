"""The `openai` package against a real conversation: first over scripted models, then real ones."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from openai import AsyncOpenAI
from scripted import Script, ScriptedDialogue, ScriptedVoice, sound
from scripted_talk import Script as Talks
from stand import Stand
from strict import Json, Strict

from textpro_stream import Engine
from textpro_stream.audio.files import FileSource
from textpro_stream.clock import MonotonicClock
from textpro_stream.commands import Configure
from textpro_stream.config import ServerOptions
from textpro_stream.contracts import AudioChunk
from textpro_stream.events import TurnEnded
from textpro_stream.runtime.device import DeviceThread
from textpro_stream.server.app import Server
from textpro_stream.server.realtime.codec import Encoder

QUESTION_FILE = Path(__file__).parents[3] / "textpro_stream" / "assets" / "question.flac"
QUESTION = sound(("silence", 0.5), ("voice", 1.0), ("silence", 1.2))
WORDS = [(" What", 0.8), (" time", 1.1), (" is it?", 1.4)]
MANUAL: Any = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
OPTIONS = ServerOptions(port=0, audio_burst_s=120)


class Client:
    def __init__(self, sdk: Any) -> None:
        self.sdk, self.strict = sdk, Strict()

    async def until(self, kind: str, limit_s: float = 10) -> Json:
        async with asyncio.timeout(limit_s):
            while True:
                event = self.strict(json.loads(await self.sdk.recv_bytes()))
                if event["type"] == kind:
                    return event

    async def speak(self, samples: np.ndarray) -> None:
        encoder = Encoder("audio/pcm", 16_000)
        for delta in [*encoder.push(samples), *encoder.finish()]:
            await self.sdk.input_audio_buffer.append(audio=base64.b64encode(delta).decode())

    def of(self, kind: str) -> list[Json]:
        return [event for event in self.strict.events if event["type"] == kind]


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client]:
    url = server.url("http", "/v1")
    async with (
        AsyncOpenAI(api_key="none", base_url=url) as openai,
        openai.realtime.connect(model="local") as connection,
    ):
        yield Client(connection)


@pytest.fixture
def stand() -> Stand:
    return Stand(
        DeviceThread("scripted"),
        Script(WORDS, delay_s=0.1),
        dialogue=ScriptedDialogue(),
        voice=ScriptedVoice(),
        clock=MonotonicClock(),
    )


@pytest.fixture
async def server(stand: Stand) -> AsyncIterator[Server]:
    with closing(stand.device):
        opened = lambda **_: stand.open(live=True)  # noqa: E731, a name for a context
        async with Server(Talks().engine(), OPTIONS, open_conversation=opened) as server:
            yield server


async def test_a_spoken_turn(server: Server) -> None:
    async with connected(server) as client:
        await client.speak(QUESTION)
        done = await client.until("response.done")
    (spoken,) = client.of("conversation.item.input_audio_transcription.completed")
    assert spoken["transcript"] == "What time is it?"
    assert done["response"]["status"] == "completed"
    assert done["response"]["output"][0]["content"][0]["transcript"] == "It is noon. Really."
    assert "textpro.waterfall" in done["response"]["metadata"]
    assert (
        len(client.strict.audio(client.strict.id("a1"))) == 2 * 2400 * 4
    )  # a tenth of a second a word
    client.strict.settled()


async def test_a_manual_turn_in_text(server: Server) -> None:
    async with connected(server) as client:
        await client.sdk.session.update(session=MANUAL)
        await client.speak(QUESTION)
        await client.sdk.input_audio_buffer.commit()
        await client.sdk.response.create(response={"output_modalities": ["text"]})
        done = await client.until("response.done")
    assert done["response"]["output"][0]["content"][0]["text"] == "It is noon. Really."
    assert not client.of("input_audio_buffer.speech_started")
    client.strict.settled()


async def test_cancels_and_creates_as_fast_as_they_can_be_sent(server: Server) -> None:
    async with connected(server) as client:
        await client.sdk.response.create()
        for _ in range(5):
            await client.sdk.response.cancel()
            await client.sdk.response.create()
        while (await client.until("response.done"))["response"]["status"] != "completed":
            pass
    assert len(client.of("response.done")) == 6
    client.strict.settled()


@pytest.mark.weights
async def test_a_question_to_real_models_is_answered_in_words() -> None:
    voiced = np.concatenate([chunk.samples for chunk in FileSource(QUESTION_FILE).chunks()])
    silence = np.zeros(16_000, np.float32)
    async with await Engine.load() as engine:
        async with Server(engine, OPTIONS) as server, connected(server) as client:
            await client.speak(np.concatenate([voiced, silence]))
            done = await client.until("response.done", 60)
        client.strict.settled()
        (asked,) = client.of("conversation.item.input_audio_transcription.completed")
        assert "photosynthesis" in asked["transcript"].lower().replace(" ", "")
        item = done["response"]["output"][0]
        pcm = np.frombuffer(client.strict.audio(item["id"]), "<i2") / 32768
        said = soxr.resample(pcm.astype(np.float32), 24_000, 16_000)
        understood = ""
        async with engine.open(live=False) as talk:
            await talk.push(Configure(replies=False))
            await talk.push(AudioChunk(np.concatenate([said, silence]), 0))
            await talk.finish()
            async for event in talk:
                if isinstance(event, TurnEnded):
                    understood += " " + event.transcript
    written = set(item["content"][0]["transcript"].lower().split())
    common = written & set(understood.lower().split())
    assert len(common) >= len(written) / 2, (written, understood)
