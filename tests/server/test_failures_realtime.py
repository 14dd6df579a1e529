"""The failure cases of `test_failure_cases.py` on `/v1/realtime`, and models that fail."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import psutil
import pytest
from server_process import QUESTION, REPLY, ServerProcess, good_turn, pcm, serving
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed

Json = dict[str, Any]

QUESTION_24K = np.repeat(QUESTION, 3)[::2]
SILENCE = base64.b64encode(bytes(4800)).decode()  # 0.1 s
TEXT = {"output_modalities": ["text"]}


class Client:
    """A raw socket that speaks the protocol."""

    def __init__(self, opened: ClientConnection) -> None:
        self.opened = opened

    async def send(self, kind: str, **fields: Any) -> None:
        await self.opened.send(json.dumps({"type": kind, **fields}))

    async def ask(self) -> None:
        audio = base64.b64encode(pcm(QUESTION_24K)).decode()
        await self.send("input_audio_buffer.append", audio=audio)

    async def until(self, *kinds: str) -> list[Json]:
        """Events up to the first of these kinds."""
        seen: list[Json] = []
        async with asyncio.timeout(15):
            while not seen or seen[-1]["type"] not in kinds:
                seen.append(json.loads(await self.opened.recv()))
        return seen

    async def reply(self) -> Json:
        """The response that is over next."""
        return dict((await self.until("response.done"))[-1]["response"])

    async def respond(self) -> Json:
        await self.send("response.create", response=TEXT)
        return await self.reply()

    def reset(self) -> None:
        """Go without a goodbye."""
        plain = self.opened.transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.opened.transport.abort()


@contextlib.asynccontextmanager
async def client(server: ServerProcess, **more: Any) -> AsyncIterator[Client]:
    async with open_socket(server.realtime_url, compression=None, **more) as opened:
        yield Client(opened)


def transcript(response: Json) -> str:
    (item,) = response["output"]
    (part,) = item["content"]
    return str(part.get("transcript") or part.get("text"))


# 1


@pytest.mark.parametrize(
    "moment",
    [
        "input_audio_buffer.speech_started",
        "response.created",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
    ],
)
async def test_a_realtime_client_that_vanishes_leaves_nothing_behind(moment: str) -> None:
    with serving(piece_s=0.05) as server:
        async with client(server) as first:  # what is imported at first use is no leak
            await first.ask()
            await first.until("response.done")
        baseline = await server.settle()
        async with client(server) as vanishing:
            await vanishing.ask()
            await vanishing.until(moment)
            vanishing.reset()
        await server.returns_to(baseline)


# 2


async def test_a_stalled_realtime_reader_is_closed_and_delays_nobody() -> None:
    loud = {"rate_hz": 192_000, "server": {"outgoing_s": 1.0}}
    with serving(pieces=400, **loud) as server:
        async with client(server) as first:
            await first.send("response.create")
            await first.until("response.output_audio.delta")
        baseline = await server.at_rest()
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.port))
        slow.setblocking(False)
        async with client(server, sock=slow, max_queue=1, close_timeout=1) as stalled:
            await stalled.send("response.create")
            # The kernel's buffers fill at the pace of speech; nobody else feels it.
            hanging_up = asyncio.create_task(server.hangs_up(1008))
            while not hanging_up.done():
                async with asyncio.timeout(2), client(server) as other:
                    await other.send("response.create")
                    await other.until("response.output_audio.delta")
            await hanging_up
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await stalled.opened.recv()
            closed = stalled.opened.close_code, stalled.opened.close_reason
        assert closed == (1008, "slow reader")
        await server.is_back_at(baseline)


# 15


@pytest.mark.parametrize("failure", ["bug", "nan", "memory"])
async def test_an_llm_that_fails_twice_fails_one_response(failure: str) -> None:
    with serving(fails="llm", times=2, failure=failure) as server:
        async with client(server) as failing, client(server) as other:
            failed = await failing.respond()
            assert failed["status"] == "failed"
            error = failed["status_details"]["error"]
            assert (error["type"], error["code"]) == ("server_error", "llm")
            assert error["message"]
            for each in (failing, other):
                response = await each.respond()
                assert (response["status"], transcript(response)) == ("completed", REPLY)
        baseline = await server.settle()
        await server.returns_to(baseline)


@pytest.mark.parametrize("failure", ["bug", "nan", "memory"])
async def test_an_llm_that_fails_once_is_asked_again_with_its_cache_freed(failure: str) -> None:
    with serving(fails="llm", times=1, failure=failure) as server:
        async with client(server) as asking:
            response = await asking.respond()
            assert (response["status"], transcript(response)) == ("completed", REPLY)
        assert server.metrics()['textpro_model_faults{model="llm"}'] == 1


async def test_a_spoken_turn_whose_llm_fails_is_answered_the_next_time() -> None:
    with serving(fails="llm", times=2) as server:
        async with client(server) as asking:
            await asking.ask()
            failed = await asking.reply()
            assert failed["status"] == "failed"
            response = await asking.respond()
            assert (response["status"], transcript(response)) == ("completed", REPLY)


async def test_a_recognizer_that_fails_is_told_of_and_the_session_goes_on() -> None:
    with serving(fails="asr") as server:
        async with client(server) as asking:
            await asking.ask()
            seen = await asking.until("conversation.item.input_audio_transcription.failed")
            failed = seen[-1]
            assert (failed["error"]["type"], failed["error"]["code"]) == ("server_error", "asr")
            assert failed["item_id"] in {
                e["item"]["id"] for e in seen if e["type"] == "conversation.item.added"
            }
            # What was left of the sentence is a turn of its own, and answered by itself.
            response = await asking.reply()
            assert (response["status"], transcript(response)) == ("completed", REPLY)
        await good_turn(server.url)


@pytest.mark.parametrize("failure", ["bug", "nan"])
async def test_a_voice_that_fails_leaves_the_text(failure: str) -> None:
    with serving(fails="voice", failure=failure) as server:
        async with client(server) as asking:
            await asking.send("response.create")
            seen = await asking.until("response.done")
            response = seen[-1]["response"]
            assert (response["status"], transcript(response)) == ("completed", REPLY)
            assert "response.output_audio.delta" not in {event["type"] for event in seen}
            assert "textpro.warning" in response["metadata"]
            await asking.send("response.create")
            await asking.until("response.output_audio.delta")
            assert (await asking.reply())["status"] == "completed"
        figures = server.metrics()
        assert figures['textpro_model_faults{model="voice"}'] == 1
        assert 'textpro_model_faults{model="llm"}' not in figures


async def test_a_voice_process_that_hangs_is_replaced_within_the_reply() -> None:
    with serving(espeak=0.5) as server:
        (stuck,) = psutil.Process(server.process.pid).children()
        os.kill(stuck.pid, signal.SIGSTOP)
        async with client(server) as asking:
            await asking.send("response.create")
            await asking.until("response.output_audio.delta")
            assert (await asking.reply())["status"] == "completed"
        assert stuck.pid not in {c.pid for c in psutil.Process(server.process.pid).children()}


async def test_a_model_that_keeps_failing_makes_the_server_unready_until_it_works() -> None:
    with serving(fails="llm", times=4) as server:
        async with client(server) as asking:
            assert await asyncio.to_thread(server.ready)
            assert (await asking.respond())["status"] == "failed"  # two tries
            assert await asyncio.to_thread(server.ready)
            assert (await asking.respond())["status"] == "failed"
            assert not await asyncio.to_thread(server.ready)
            assert (await asking.respond())["status"] == "completed"
            assert await asyncio.to_thread(server.ready)


# 8


async def test_a_quiet_session_gives_its_cache_back_before_it_ends() -> None:
    with serving(server={"rest_s": 0.5}) as server:
        async with client(server) as quiet:
            assert (await quiet.respond())["status"] == "completed"
            assert server.sample().rows > 0
            async with asyncio.timeout(5):
                while server.sample().rows:  # its microphone stays open
                    await quiet.send("input_audio_buffer.append", audio=SILENCE)
                    await asyncio.sleep(0.1)
            assert server.sample().sessions == 1
            response = await quiet.respond()
            assert (response["status"], transcript(response)) == ("completed", REPLY)
