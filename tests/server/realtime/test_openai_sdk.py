"""The `openai` package, as it is, against our server over real sockets.

Every event is held to the package's own types, and their order to the protocol, as it arrives.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from openai import AsyncOpenAI, OpenAI
from scripted import sound
from scripted_talk import Script
from strict import Json, Strict
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosedError

from textpro_stream.config import ServerOptions
from textpro_stream.contracts import SAMPLE_RATE, ToolCall
from textpro_stream.server.app import Server
from textpro_stream.server.realtime.codec import Encoder

QUESTION = sound(("silence", 0.2), ("voice", 1.0), ("silence", 0.8))
MANUAL: Any = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
TYPED: Any = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "Say hello"}],
}
KEY = "a-key-for-tests-that-is-long-enough"


def wire(samples: np.ndarray, kind: str = "audio/pcm") -> list[str]:
    """Audio as clients append it."""
    encoder = Encoder(kind, 16_000)
    return [base64.b64encode(d).decode() for d in encoder.push(samples) + encoder.finish()]


class Client:
    """The package's own connection; what arrives is checked before anybody sees it."""

    def __init__(self, connection: Any, *, extended: bool = False) -> None:
        self.sdk, self.strict = connection, Strict(extended=extended)

    async def recv(self) -> Json:
        async with asyncio.timeout(10):
            data = await self.sdk.recv_bytes()
        assert self.sdk.parse_event(data).type
        return self.strict(json.loads(data))

    async def until(self, kind: str, n: int = 1) -> Json:
        """Read until an event of that type has come n times."""
        while True:
            event = await self.recv()
            n -= event["type"] == kind
            if not n:
                return event

    async def speak(self, samples: np.ndarray = QUESTION, kind: str = "audio/pcm") -> None:
        for audio in wire(samples, kind):
            await self.sdk.input_audio_buffer.append(audio=audio)

    async def update(self, **session: Any) -> Json:
        await self.sdk.session.update(session={"type": "realtime", **session})
        return await self.until("session.updated")

    def of(self, kind: str) -> list[Json]:
        return [event for event in self.strict.events if event["type"] == kind]

    def text(self, kind: str) -> str:
        return "".join(event["delta"] for event in self.of(kind))


Connect = Callable[..., Any]


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def server(script: Script) -> AsyncIterator[Server]:
    options = ServerOptions(port=0, audio_burst_s=60, api_key=KEY)
    async with Server(script.engine(), options) as server:
        yield server


@pytest.fixture
def connect(server: Server) -> Connect:
    @asynccontextmanager
    async def connect(*, extended: bool = False, **query: str) -> AsyncIterator[Client]:
        url = server.url("http", "/v1")
        async with (
            AsyncOpenAI(api_key=KEY, base_url=url) as openai,
            openai.realtime.connect(model="gpt-realtime", extra_query=query) as connection,
        ):
            yield Client(connection, extended=extended)

    return connect


async def test_a_spoken_question_is_answered_aloud(connect: Connect, script: Script) -> None:
    async with connect() as client:
        created = await client.recv()
        assert created["session"]["model"] == "smollm2-135m"
        await client.speak()
        done = await client.until("response.done")
    strict: Strict = client.strict
    assert done["response"]["status"] == "completed"
    assert client.of("input_audio_buffer.speech_started")[0]["audio_start_ms"] in range(180, 260)
    assert client.of("input_audio_buffer.speech_stopped")[0]["audio_end_ms"] in range(1150, 1260)
    spoken = client.of("conversation.item.input_audio_transcription.completed")[0]
    assert spoken["transcript"] == "What time is it?"
    assert client.text("conversation.item.input_audio_transcription.delta") == "What time is it?"
    assert client.text("response.output_audio_transcript.delta") == " It is noon."
    assert len(strict.audio(strict.id("a1"))) == pytest.approx(2 * 24 * 300, abs=4)
    assert json.loads(done["response"]["metadata"]["textpro.waterfall"]) == {"first_token": 0.01}
    strict.settled()
    (talk,) = script.talks
    assert [m.id for m in talk.memory] == ["u1", "a1"]


async def test_audio_in_many_small_pieces_is_not_too_many_messages(connect: Connect) -> None:
    piece = base64.b64encode(bytes(2 * 480)).decode()  # 20 ms
    async with connect() as client:
        for _ in range(400):
            await client.sdk.input_audio_buffer.append(audio=piece)
        await client.update(instructions="Still here.")


@pytest.mark.parametrize("pieces", [1, 40])
async def test_a_recording_may_come_at_any_speed_where_the_client_ends_turns(
    script: Script, pieces: int
) -> None:
    minute = bytes(2 * 24_000 * 60 // pieces)
    async with (
        Server(script.engine(), ServerOptions(port=0)) as server,
        AsyncOpenAI(api_key="-", base_url=server.url("http", "/v1")) as openai,
        openai.realtime.connect(model="any") as connection,
    ):
        client = Client(connection)
        await client.update(audio={"input": {"turn_detection": None}})
        for _ in range(pieces):
            await client.sdk.input_audio_buffer.append(audio=base64.b64encode(minute).decode())
        await client.update(instructions="Still here.")
    (talk,) = script.talks
    assert talk.position == pytest.approx(60 * SAMPLE_RATE, abs=SAMPLE_RATE)


async def test_live_audio_that_comes_too_fast_is_told_how_a_recording_is_sent(
    script: Script,
) -> None:
    async with (
        Server(script.engine(), ServerOptions(port=0)) as server,
        AsyncOpenAI(api_key="-", base_url=server.url("http", "/v1")) as openai,
        openai.realtime.connect(model="any") as connection,
    ):
        client = Client(connection)
        minute = base64.b64encode(bytes(2 * 24_000 * 60)).decode()
        await client.sdk.input_audio_buffer.append(audio=minute)
        error = (await client.until("error"))["error"]
    assert error["code"] == "rate_limited"
    assert "turn_detection" in error["message"]


async def test_an_append_beyond_the_limit_is_told_before_the_end(script: Script) -> None:
    async with (
        Server(script.engine(), ServerOptions(port=0, append_bytes=2**20)) as server,
        AsyncOpenAI(api_key="-", base_url=server.url("http", "/v1")) as openai,
        openai.realtime.connect(model="any") as connection,
    ):
        client = Client(connection)
        await client.update(audio={"input": {"turn_detection": None}})
        await client.sdk.input_audio_buffer.append(audio="AAAA" * (2**20 // 3))
        instructions = "x" * (2**20 + 10)
        await client.sdk.session.update(session={"type": "realtime", "instructions": instructions})
        error = (await client.until("error"))["error"]
        assert error["code"] == "message_too_big"
        with pytest.raises(ConnectionClosedError) as closed:
            await client.until("never")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_too_many_messages_end_it(connect: Connect) -> None:
    async with connect() as client:
        for _ in range(400):
            await client.sdk.input_audio_buffer.append(audio="AAAA")
        error = (await client.until("error"))["error"]
        assert error["code"] == "rate_limited"
        with pytest.raises(ConnectionClosedError):
            await client.until("never")


async def test_a_typed_question_is_answered_in_text(connect: Connect, script: Script) -> None:
    async with connect() as client:
        await client.update(output_modalities=["text"], instructions="Be brief.")
        await client.sdk.conversation.item.create(item=TYPED)
        await client.sdk.response.create(response={"metadata": {"ours": "yes"}})
        done = await client.until("response.done")
    assert client.text("response.output_text.delta") == " It is noon."
    assert done["response"]["metadata"]["ours"] == "yes"
    assert not client.of("response.output_audio.delta")
    client.strict.settled()
    (talk,) = script.talks
    assert [m.text for m in talk.memory] == ["Say hello", " It is noon."]
    assert talk.llm.system_prompt == "Be brief."


async def test_semantic_vad_may_leave_the_answer_to_the_client(connect: Connect) -> None:
    detection = {"type": "semantic_vad", "eagerness": "high", "create_response": False}
    async with connect() as client:
        await client.update(audio={"input": {"turn_detection": detection}})
        await client.speak(np.concatenate([QUESTION, sound(("silence", 0.5))]))
        await client.until("conversation.item.input_audio_transcription.completed")
        assert not client.of("response.created")
        await client.sdk.response.create()
        await client.until("response.done")
    client.strict.settled()


async def test_manual_turns(connect: Connect) -> None:
    async with connect() as client:
        await client.sdk.session.update(session=MANUAL)
        for n in (1, 2):
            await client.speak()
            await client.sdk.input_audio_buffer.commit()
            await client.sdk.response.create()
            await client.until("response.done")
            assert len(client.of("input_audio_buffer.committed")) == n
        await client.sdk.input_audio_buffer.commit(event_id="empty")
        error = (await client.until("error"))["error"]
        assert (error["code"], error["event_id"]) == ("input_audio_buffer_commit_empty", "empty")
        await client.speak()
        await client.sdk.input_audio_buffer.clear()
        await client.until("input_audio_buffer.cleared")
    assert not client.of("input_audio_buffer.speech_started")
    client.strict.settled()


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
async def test_telephone_audio_both_ways(connect: Connect, kind: str) -> None:
    async with connect() as client:
        wanted = {"format": {"type": kind}}
        await client.update(audio={"input": wanted, "output": wanted})
        await client.speak(kind=kind)
        await client.until("response.done")
    assert client.text("response.output_audio_transcript.delta") == " It is noon."
    assert len(client.strict.audio(client.strict.id("a1"))) == pytest.approx(8 * 300, abs=2)


async def test_a_transcription_session_never_answers(connect: Connect) -> None:
    async with connect(intent="transcription") as client:
        created = await client.recv()
        assert created["session"]["type"] == "transcription"
        for _ in range(2):
            await client.speak()
        await client.until("conversation.item.input_audio_transcription.completed", 2)
        await client.sdk.response.create()
        await client.until("error")
    assert not client.of("response.created")


async def test_a_function_is_called_and_its_output_answered(
    connect: Connect, script: Script
) -> None:
    script.call = ToolCall("get_time", '{"zone": "UTC"}')
    tool = {"type": "function", "name": "get_time", "parameters": {"type": "object"}}
    async with connect() as client:
        await client.update(tools=[tool], output_modalities=["text"])
        await client.speak()
        call = (await client.until("response.function_call_arguments.done"))["call_id"]
        done = await client.until("response.done")
        assert done["response"]["output"][0]["name"] == "get_time"
        output = {"type": "function_call_output", "call_id": call, "output": "12:00"}
        await client.sdk.conversation.item.create(item=output)
        await client.sdk.response.create()
        done = await client.until("response.done")
    assert done["response"]["output"][0]["content"][0]["text"] == " It is noon."
    assert [m.role for m in script.talks[0].memory][-2:] == ["tool", "assistant"]
    client.strict.settled()


async def test_barge_in_and_what_was_heard_of_the_reply(connect: Connect, script: Script) -> None:
    script.plays_s = 60
    async with connect() as client:
        await client.speak()
        await client.until("response.done")
        await client.speak(sound(("voice", 0.5)))
        await client.until("input_audio_buffer.speech_started")
        await client.sdk.conversation.item.truncate(
            item_id=client.strict.id("a1"), content_index=0, audio_end_ms=250
        )
        await client.until("conversation.item.truncated")
        await client.sdk.conversation.item.truncate(
            item_id=client.strict.id("a1"), content_index=0, audio_end_ms=5000
        )
        assert (await client.until("error"))["error"]["param"] == "audio_end_ms"
    assert script.talks[0].memory[1].text == " It is"


async def test_barge_in_while_the_reply_is_made_cancels_it(
    connect: Connect, script: Script
) -> None:
    script.reply = [" on"] * 1000
    script.step_s = 0.01
    async with connect() as client:
        await client.speak()
        await client.until("response.output_audio.delta")
        await client.speak(sound(("voice", 0.5)))
        started = await client.until("input_audio_buffer.speech_started")
        assert started["item_id"] == client.strict.id("u2")
        done = (await client.until("response.done"))["response"]
        assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        await client.speak(sound(("silence", 0.8)))
        created = await client.until("response.created")
        assert created["response"]["id"] != done["id"]


async def test_cancels_and_creates_as_fast_as_they_can_be_sent(
    connect: Connect, script: Script
) -> None:
    script.reply = [" on"] * 1000
    script.step_s = 0.001
    async with connect() as client:
        await client.sdk.conversation.item.create(item=TYPED)
        await client.sdk.response.create()
        for _ in range(5):
            await client.sdk.response.cancel()
            await client.sdk.response.create()
        await client.until("response.created", 6)
        await client.until("response.output_audio_transcript.delta")
        await client.sdk.response.create(event_id="second")
        error = (await client.until("error"))["error"]
        assert error["code"] == "conversation_already_has_active_response"
        assert error["event_id"] == "second"
        await client.sdk.response.cancel()
        await client.sdk.response.cancel()
        error = (await client.until("error"))["error"]
        assert error["code"] == "response_cancel_not_active"
        assert len(client.of("response.done")) == len(client.of("response.created")) == 6
        await client.sdk.conversation.item.retrieve(item_id=client.strict.id("000001"))
        await client.until("conversation.item.retrieved")
    client.strict.settled()


async def test_items_are_kept_in_order_and_deleted(connect: Connect, script: Script) -> None:
    async with connect() as client:
        item = client.sdk.conversation.item
        for name, before in (("b", "root"), ("a", "root"), ("c", "b")):
            await item.create(item=TYPED | {"id": name}, previous_item_id=before)
        await item.delete(item_id="b")
        await client.until("conversation.item.deleted")
        assert [m.id for m in script.talks[0].memory] == ["a", "c"]


async def test_an_out_of_band_response_leaves_no_trace(connect: Connect, script: Script) -> None:
    async with connect() as client:
        await client.sdk.response.create(
            response={"conversation": "none", "input": [TYPED], "output_modalities": ["text"]}
        )
        done = await client.until("response.done")
    assert done["response"]["conversation_id"] is None
    assert not client.of("conversation.item.added")
    assert script.talks[0].memory == []


async def test_mistakes_are_told_and_too_many_of_them_end_it(connect: Connect) -> None:
    async with connect() as client:
        await client.sdk.send({"type": "session.update", "session": {"modalities": ["text"]}})
        error = (await client.until("error"))["error"]
        assert "output_modalities" in error["message"]
        await client.sdk.send_raw("{")
        assert (await client.until("error"))["error"]["code"] == "invalid_json"
        await client.update(instructions="Still here.")
        for _ in range(20):
            await client.sdk.send_raw("{")
        with pytest.raises(ConnectionClosedError) as closed:
            await client.until("never")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_own_events_for_those_who_ask(connect: Connect) -> None:
    async with connect(extended=True, textpro="1") as client:
        await client.speak()
        await client.until("response.done")
        await client.sdk.send_raw('{"type": "textpro.clock", "t0": 1.5}')
        clock = await client.until("textpro.clock")
    assert clock["t1"] <= clock["t2"]
    kinds = {event["event"]["type"] for event in client.of("textpro.event")}
    assert {"transcript.hypothesis", "turn.endpoint", "reply.given"} <= kinds


async def test_an_announcement_reaches_the_client(connect: Connect, server: Server) -> None:
    async with connect() as client:
        await client.recv()
        await server.hub.say("Dinner is ready.")
        done = await client.until("response.done")
    assert done["response"]["output"][0]["content"][0]["transcript"] == "Dinner is ready."


async def test_calls_are_refused_politely(server: Server) -> None:
    url = server.url("ws", "/v1/realtime?call_id=rtc_1")
    headers = {"Authorization": f"Bearer {KEY}"}
    async with open_socket(url, additional_headers=headers) as socket:
        error = json.loads(await socket.recv())
        assert error["error"]["code"] == "invalid_value"
        await socket.wait_closed()
        assert socket.close_code == 1008


async def test_clients_of_the_beta_are_told(server: Server) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "OpenAI-Beta": "realtime=v1"}
    async with open_socket(server.url("ws", "/v1/realtime"), additional_headers=headers) as socket:
        strict = Strict()
        strict(json.loads(await socket.recv()))
        assert "GA" in strict(json.loads(await socket.recv()))["error"]["message"]


async def test_a_browser_offers_its_key_as_a_protocol(server: Server) -> None:
    offered: Any = ["realtime", f"openai-insecure-api-key.{KEY}"]
    async with open_socket(server.url("ws", "/v1/realtime"), subprotocols=offered) as socket:
        assert socket.subprotocol == "realtime"
        assert json.loads(await socket.recv())["type"] == "session.created"


async def test_handlers_are_called_by_the_package(connect: Connect) -> None:
    async with connect() as client:
        said: list[str] = []
        client.sdk.on("response.output_audio_transcript.delta", lambda e: said.append(e.delta))

        async def leave(_event: Any) -> None:
            await client.sdk.close()

        client.sdk.on("response.done", leave)
        await client.speak()
        async with asyncio.timeout(10):
            await client.sdk.dispatch_events()
    assert said == [" It", " is", " noon."]


def _talk(url: str, *, websocket_base_url: str | None = None) -> Strict:
    strict = Strict()
    openai = OpenAI(api_key=KEY, base_url=url, websocket_base_url=websocket_base_url)
    with openai, openai.realtime.connect(model="local") as connection:
        for audio in wire(QUESTION):
            connection.input_audio_buffer.append(audio=audio)
        while True:
            data = connection.recv_bytes()
            assert connection.parse_event(data).type
            if strict(json.loads(data))["type"] == "response.done":
                break
    strict.settled()
    return strict


# The package connects in a way that websockets 17.1 frowns upon.
@pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning")
async def test_the_synchronous_client(server: Server) -> None:
    run: Callable[..., Awaitable[Strict]] = asyncio.to_thread
    strict = await run(_talk, server.url("http", "/v1"))
    assert strict.audio(strict.id("a1"))
    again = await run(_talk, "http://127.0.0.1:9/v1", websocket_base_url=server.url("ws", "/v1"))
    assert [kind for kind in again.types if kind in strict.types]
