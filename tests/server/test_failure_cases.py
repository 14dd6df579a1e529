"""What goes wrong with real clients, against a real server process over real sockets.

Each test says what the client sees, and that the process is then as it was: file descriptors,
threads, children, memory, tasks, sessions, and a whole correct turn for whoever comes next. Models
are scripted, so that they take as long and fail as often as a case needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from scripted import sound
from server_process import QUESTION, REPLY, ServerProcess, good_turn, pcm, serving, until
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from textpro_stream.client import Session, connect

LONG = {"pieces": 2000, "piece_s": 0.005}  # a reply of ten seconds to decode, minutes to speak
KEY = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """For the cases that need no server of their own: what one leaves behind, the next one has."""
    with serving() as usual:
        yield usual


@contextlib.asynccontextmanager
async def raw(url: str, **more: Any) -> AsyncIterator[ClientConnection]:
    """A socket without the manners of our own client."""
    async with open_socket(url, compression=None, **more) as opened:
        yield opened


async def messages_until_closed(opened: ClientConnection) -> tuple[list[Any], int, str]:
    """Everything that still comes, the closing code and its reason."""
    seen: list[Any] = []
    async with asyncio.timeout(20):
        try:
            while True:
                message = await opened.recv()
                seen.append(json.loads(message) if isinstance(message, str) else message)
        except ConnectionClosed:
            pass
    return seen, opened.close_code or 0, opened.close_reason or ""


def errors(messages: list[Any]) -> list[str]:
    return [m["code"] for m in messages if isinstance(m, dict) and m["type"] == "error"]


async def next_of(opened: ClientConnection, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            message = await opened.recv()
            if isinstance(message, str) and json.loads(message)["type"] == kind:
                return json.loads(message)


async def ask(opened: ClientConnection, kind: str, **fields: Any) -> None:
    await opened.send(json.dumps({"type": kind, **fields}))


async def complaint(opened: ClientConnection) -> str:
    return str((await next_of(opened, "error"))["error"]["code"])


def reset(opened: ClientConnection) -> None:
    """Go as a machine does whose Wi-Fi fails: RST, no goodbye."""
    plain = opened.transport.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    opened.transport.abort()


# 1


@pytest.mark.parametrize("moment", ["speech.started", "reply.delta", "speech.audio"])
async def test_a_client_that_vanishes_leaves_nothing_behind(
    server: ServerProcess, moment: str
) -> None:
    baseline = await server.settle()
    async with raw(server.url) as opened:
        await opened.send(pcm(QUESTION))
        await next_of(opened, moment)
        reset(opened)
    await server.returns_to(baseline)


@pytest.mark.slow(reason="half a second of real time, to see that no CPU is used in it")
async def test_vanishing_in_a_long_reply_stops_its_models() -> None:
    with serving(**LONG) as server:
        async with connect(server.url) as session:  # the first reply's imports are no leak
            await session.say("hello")
            await until(session, "reply.delta")
        async with raw(server.url) as opened:
            await opened.send(json.dumps({"type": "say", "text": "hello"}))
            await next_of(opened, "speech.audio")
            reset(opened)
        await server.at_rest()
        before = server.cpu_s()
        await asyncio.sleep(0.5)
        assert server.cpu_s() - before < 0.1
        assert server.sample().sessions == 0


# 2


async def stall(server: ServerProcess, n: int) -> tuple[int, str]:
    """Have a reply told to somebody who does not read, the nth, and others to those who do."""
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", server.port))
    slow.setblocking(False)
    async with raw(server.url, sock=slow, max_queue=1, close_timeout=1) as stalled:
        await stalled.send(json.dumps({"type": "start", "live": False}))
        await stalled.send(json.dumps({"type": "say", "text": "hello"}))
        hanging_up = asyncio.create_task(server.hangs_up(1008, n))
        async with connect(server.url, voice=False) as session:
            while not hanging_up.done():
                began = time.monotonic()
                await session.say("hello")
                await until(session, "reply.delta")
                assert time.monotonic() - began < 1.0
                await session.stop()
                await until(session, "reply.done")
                await asyncio.sleep(0.1)  # else it asks for too much
            await hanging_up
            _, code, reason = await messages_until_closed(stalled)
    return code, reason


async def test_a_stalled_reader_is_closed_and_delays_nobody() -> None:
    loud = {"rate_hz": 192_000, "server": {"outgoing_s": 1.0}}
    with serving(pieces=400, **loud) as server:
        assert await stall(server, 1) == (1008, "slow reader")
        baseline = await server.at_rest()
        assert await stall(server, 2) == (1008, "slow reader")
        await server.is_back_at(baseline)


# 3


async def test_a_flood_of_audio_ends_with_rate_limited(server: ServerProcess) -> None:
    baseline = await server.settle()
    async with raw(server.url) as opened:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(200):
                await opened.send(bytes(32_000))
        seen, code, _ = await messages_until_closed(opened)
    assert errors(seen) == ["rate_limited"]
    assert code == 1008
    await server.returns_to(baseline)


async def test_a_file_may_come_as_fast_as_it_is_heard(server: ServerProcess) -> None:
    async with connect(server.url, live=False) as session:
        for _ in range(60):
            await session.send(bytes(32_000))
        await session.end()
        seen = [message async for message in session]
    assert seen[-1]["type"] == "source.done"
    assert seen[-1]["audio_s"] == 60.0


# 4


async def test_odd_bytes_are_carried_over(server: ServerProcess) -> None:
    baseline = await server.settle()
    async with connect(server.url) as session:
        data = pcm(QUESTION)
        for start in range(0, len(data), 1601):
            await session.send(data[start : start + 1601])
        seen = await until(session, "turn.endpoint")
    assert seen[-1]["transcript"] == " What time is it?"
    assert not errors(seen)
    await server.returns_to(baseline)


async def test_broken_base64_appends_nothing_and_the_connection_lives(
    server: ServerProcess,
) -> None:
    async with raw(server.realtime_url) as opened:
        for broken in ("AAA", "!!!!", 7, None):
            await ask(opened, "input_audio_buffer.append", audio=broken)
            assert await complaint(opened) in ("invalid_value", "missing_field")
        await ask(opened, "input_audio_buffer.commit")
        assert await complaint(opened) == "input_audio_buffer_commit_empty"


# 5


async def test_a_wrong_format_is_refused_and_the_session_is_as_before(
    server: ServerProcess,
) -> None:
    baseline = await server.settle()
    async with raw(server.realtime_url) as opened:
        before = (await next_of(opened, "session.created"))["session"]["audio"]
        for wrong in ({"type": "audio/pcm", "rate": 16_000}, {"type": "audio/opus"}):
            session = {"type": "realtime", "audio": {"input": {"format": wrong}}}
            await ask(opened, "session.update", session=session)
            error = (await next_of(opened, "error"))["error"]
            assert error["code"] == "unsupported_audio_format"
            assert "audio/pcmu" in error["message"]
        await ask(opened, "session.update", session={"type": "realtime"})
        after = (await next_of(opened, "session.updated"))["session"]["audio"]
        assert after == before
    await server.returns_to(baseline)


# 6


async def test_a_giant_message_is_refused_with_1009(server: ServerProcess) -> None:
    baseline = await server.settle()
    for giant in (bytes(2**21), "x" * 2**21):
        async with raw(server.url) as opened:
            with contextlib.suppress(ConnectionClosed):
                await opened.send(giant)
            _, code, _ = await messages_until_closed(opened)
        assert code == 1009
    await server.returns_to(baseline)


async def test_nothing_is_unfolded(server: ServerProcess) -> None:
    async with open_socket(server.url, compression="deflate") as opened:
        assert "Sec-WebSocket-Extensions" not in opened.response.headers


# 7


async def test_a_hundred_connects_at_once() -> None:
    with serving(server={"max_sessions": 4}) as server:
        baseline = await server.settle()
        held: list[ClientConnection] = []
        refused: list[Response] = []
        slowest = [0.0]
        early = await open_socket(server.url)
        held.append(early)

        async def come() -> None:
            began = time.monotonic()
            try:
                opened = await open_socket(server.url)
            except InvalidStatus as error:
                refused.append(error.response)
                slowest[0] = max(slowest[0], time.monotonic() - began)
            else:
                held.append(opened)

        await asyncio.gather(*(come() for _ in range(99)))
        async with asyncio.timeout(5):
            # Whoever came at the same moment is told so.
            while len(served := [o for o in held if o.close_code is None]) > 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert len(served) == 4
        assert {o.close_code for o in held if o not in served} <= {1013}  # two at the same moment
        assert len(refused) >= 90
        assert {(r.status_code, r.headers["Retry-After"]) for r in refused} == {(503, "5")}
        assert slowest[0] < 5  # a hundred clients of one busy test process

        began = time.monotonic()
        with pytest.raises(InvalidStatus):
            await open_socket(server.url)
        assert time.monotonic() - began < 0.1

        for opened in served:
            await opened.send(pcm(QUESTION))
        for opened in served:
            assert (await next_of(opened, "turn.endpoint"))["transcript"] == " What time is it?"
        for opened in held:
            await opened.close()
        await server.returns_to(baseline)


async def test_a_browser_is_told_why_it_is_refused() -> None:
    with serving(server={"max_sessions": 1}) as server:
        async with raw(server.url):
            origin = f"http://127.0.0.1:{server.port}"
            async with raw(server.url, origin=origin, subprotocols=["textpro"]) as late:
                seen, code, _ = await messages_until_closed(late)
        assert errors(seen) == ["overloaded"]
        assert code == 1013


# 8


async def test_an_idle_client_is_told_and_let_go() -> None:
    with serving(server={"idle_s": 1.0}) as server:
        baseline = await server.settle()
        async with raw(server.url) as opened:
            seen, code, _ = await messages_until_closed(opened)
        assert errors(seen) == ["session_expired"]
        assert code == 1000
        await server.returns_to(baseline)


async def test_a_session_has_an_end() -> None:
    with serving(server={"session_s": 1.0}) as server:
        baseline = await asyncio.to_thread(server.sample)
        async with raw(server.url) as opened:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await opened.send(json.dumps({"type": "clock", "t0": 1}))
                    await asyncio.sleep(0.1)
            seen, code, _ = await messages_until_closed(opened)
        assert errors(seen) == ["session_expired"]
        assert code == 1000
        after = await asyncio.to_thread(server.sample)
        assert (after.sessions, after.rows) == (baseline.sessions, 0)


# 9


async def test_a_wrong_key_is_refused_in_the_handshake() -> None:
    with serving(server={"api_key": KEY}) as server:
        with pytest.raises(InvalidStatus) as missing:
            await open_socket(server.url)
        with pytest.raises(InvalidStatus) as wrong:
            await open_socket(server.url, additional_headers={"Authorization": "Bearer " + KEY[1:]})
        for refusal in (missing, wrong):
            assert refusal.value.response.status_code == 401
            assert refusal.value.response.body == b"a valid key is needed\n"
        assert server.metrics()['textpro_refused_total{reason="key"}'] == 2
        assert server.sample().sessions == 0

        await good_turn(server.url, key=KEY)
        protocols = ["textpro", f"openai-insecure-api-key.{KEY}"]
        async with raw(server.url, subprotocols=protocols) as opened:
            assert opened.subprotocol == "textpro"
            assert KEY not in str(opened.response.headers)


async def test_guessing_is_slowed_down() -> None:
    with serving(server={"api_key": KEY}) as server:
        statuses = []
        for guess in range(14):
            with pytest.raises(InvalidStatus) as refusal:
                await open_socket(
                    server.url, additional_headers={"Authorization": f"Bearer {guess}"}
                )
            statuses.append(refusal.value.response.status_code)
        assert statuses[0] == 401
        assert statuses[-1] == 429


# 10 and 11

BAD = [
    ("{", "invalid_json"),
    ("[]", "invalid_json"),
    ("NaN", "invalid_json"),
    ('{"type": "clock", "t0": NaN}', "invalid_json"),
    ("[" * 100_000, "invalid_json"),
    ("{}", "missing_field"),
    ('{"type": 7}', "missing_field"),
    ('{"type": "sing"}', "unknown_event"),
    ('{"type": "say"}', "missing_field"),
    ('{"type": "say", "text": ""}', "invalid_value"),
    ('{"type": "say", "text": "\\ud800"}', "invalid_value"),
    ('{"type": "heard", "turn": 1, "samples": -1}', "invalid_value"),
    ('{"type": "clock", "t0": 1e999}', "invalid_value"),
    ('{"type": "set", "voice": "loud"}', "invalid_value"),
    ('{"type": "start"}', "invalid_value"),
]


async def test_a_bad_message_is_an_error_and_the_next_one_works(server: ServerProcess) -> None:
    baseline = await server.settle()
    async with raw(server.url) as opened:
        await opened.send(json.dumps({"type": "start"}))
        for text, code in BAD:
            await opened.send(text)
            error = await next_of(opened, "error")
            assert error["code"] == code, text
            assert error["message"]
            await opened.send(json.dumps({"type": "clock", "t0": 5}))
            assert (await next_of(opened, "clock"))["t0"] == 5
    await server.returns_to(baseline)


BAD_REALTIME = [
    ("{", "invalid_json", None),
    ("[]", "invalid_json", None),
    ("[" * 100_000, "invalid_json", None),
    ('{"type": "sing", "event_id": "mine"}', "unknown_event", "mine"),
    ('{"type": "conversation.item.delete", "event_id": "mine"}', "missing_field", "mine"),
]


async def test_a_bad_event_is_an_error_and_the_next_one_works(server: ServerProcess) -> None:
    baseline = await server.settle()
    async with raw(server.realtime_url) as opened:
        for text, code, event_id in BAD_REALTIME:
            await opened.send(text)
            error = (await next_of(opened, "error"))["error"]
            assert (error["code"], error["event_id"]) == (code, event_id), text
            await ask(opened, "session.update", session={"type": "realtime"})
            await next_of(opened, "session.updated")
    await server.returns_to(baseline)


async def test_bad_utf8_closes_with_1007(server: ServerProcess) -> None:
    baseline = await server.settle()
    async with raw(server.url) as opened:
        with contextlib.suppress(ConnectionClosed):
            await opened.send(b"\xff\xfe", text=True)
        _, code, _ = await messages_until_closed(opened)
    assert code == 1007
    await server.returns_to(baseline)


async def test_nothing_but_errors_closes_with_1008(server: ServerProcess) -> None:
    baseline = await server.settle()
    async with raw(server.url) as opened:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(30):
                await opened.send("nonsense")
        seen, code, reason = await messages_until_closed(opened)
    assert (code, reason) == (1008, "20 errors in a row")
    assert len(errors(seen)) <= 20
    await server.returns_to(baseline)


# 12 and 13


@pytest.mark.parametrize("moment", [None, "reply.started", "speech.audio", "reply.done"])
async def test_stopping_at_any_moment_ends_a_reply_once(moment: str | None) -> None:
    with serving(piece_s=0.01) as server:
        baseline = await server.settle()
        async with connect(server.url) as session:
            await session.say("hello")
            if moment:
                await until(session, moment)
            await session.stop()
            await session.stop()
            await session.say("again")
            await session.command("stop")
            await session.end()
            seen = [message async for message in session]
        started = [m["turn"] for m in seen if m["type"] == "reply.started"]
        done = [m["turn"] for m in seen if m["type"] == "reply.done"]
        assert len(done) == len(set(done))
        assert set(started) <= set(done)
        assert seen[-1]["type"] == "source.done"
        await server.returns_to(baseline)


async def test_two_questions_at_once_never_mix_their_replies() -> None:
    with serving(piece_s=0.01) as server:
        baseline = await server.settle()
        async with connect(server.url) as session:
            await session.say("one")
            await session.say("two")
            await session.end()
            seen = [message async for message in session]
        turns = [m["turn"] for m in seen if m["type"] in ("reply.delta", "speech.audio")]
        assert turns == sorted(turns)
        ended = {m["turn"]: m["reason"] for m in seen if m["type"] == "reply.done"}
        assert ended[2] == "stop"
        await server.returns_to(baseline)


async def test_cancel_and_create_in_one_breath() -> None:
    with serving(piece_s=0.01) as server:
        baseline = await server.settle()
        async with raw(server.realtime_url) as opened:
            text = {"output_modalities": ["text"]}
            await ask(opened, "response.cancel")
            await ask(opened, "response.create", response=text)
            await ask(opened, "response.create", response=text)
            await ask(opened, "response.cancel")
            await ask(opened, "response.create", response=text)
            seen = [json.loads(await opened.recv())]
            while [e["type"] for e in seen].count("response.done") < 2:
                seen.append(json.loads(await asyncio.wait_for(opened.recv(), 10)))
        codes = [e["error"]["code"] for e in seen if e["type"] == "error"]
        assert codes == ["response_cancel_not_active", "conversation_already_has_active_response"]
        done = [e["response"] for e in seen if e["type"] == "response.done"]
        assert [r["status"] for r in done] == ["cancelled", "completed"]
        created = [e["response"]["id"] for e in seen if e["type"] == "response.created"]
        assert created == [r["id"] for r in done]
        await server.returns_to(baseline)


# 14


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_says_goodbye_and_exits_with_0(number: int) -> None:
    with serving() as server:
        async with raw(server.url) as lean, raw(server.realtime_url) as realtime:
            await next_of(lean, "session.started")
            await next_of(realtime, "session.created")
            server.signal(number)
            seen, code, _ = await messages_until_closed(lean)
            assert errors(seen) == ["server_shutdown"]
            assert code == 1001
            seen, code, _ = await messages_until_closed(realtime)
            assert [e["error"]["code"] for e in seen] == ["server_shutdown"]
            assert code == 1001
        assert await asyncio.to_thread(server.wait) == 0


async def test_a_reply_being_given_ends_before_the_server_does() -> None:
    with serving(pieces=10, piece_s=0.1) as server:
        async with raw(server.url) as opened:
            await opened.send(json.dumps({"type": "say", "text": "hello"}))
            await next_of(opened, "reply.started")
            server.signal(signal.SIGTERM)
            seen, code, _ = await messages_until_closed(opened)
        done = [m for m in seen if isinstance(m, dict) and m["type"] == "reply.done"]
        assert [m["reason"] for m in done] == ["stop"]
        assert code == 1001
        assert await asyncio.to_thread(server.wait) == 0


async def test_an_endless_reply_does_not_hold_the_server_up() -> None:
    with serving(**LONG, server={"drain_s": 0.5}) as server:
        async with raw(server.url) as opened:
            await opened.send(json.dumps({"type": "say", "text": "hello"}))
            await next_of(opened, "reply.started")
            server.signal(signal.SIGTERM)
            _, code, _ = await messages_until_closed(opened)
        assert code == 1001
        assert await asyncio.to_thread(server.wait) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_second_signal_exits_at_once(number: int, status: int) -> None:
    with serving(**LONG) as server:
        async with raw(server.url) as opened:
            await opened.send(json.dumps({"type": "say", "text": "hello"}))
            await next_of(opened, "reply.started")
            server.signal(number)
            assert (await next_of(opened, "error"))["code"] == "server_shutdown"
            server.signal(number)
            assert await asyncio.to_thread(server.wait, 2) == status


# 15


async def fails_once(session: Session) -> list[dict[str, Any]]:
    await session.send(pcm(QUESTION))
    return await until(session, "error")


@pytest.mark.parametrize("model", ["asr", "llm", "voice"])
async def test_a_model_that_fails_costs_one_turn(model: str) -> None:
    times = 2 if model == "llm" else 1  # it is asked again, with its cache freed, before that
    with serving(fails=model, times=times) as server:
        async with connect(server.url) as session:
            seen = await fails_once(session)
            seen += await until(session, "turn.latency" if model != "asr" else "turn.endpoint")
            assert len(errors(seen)) == 1
            await session.send(pcm(sound(("silence", 0.2))))
            await session.say("and now?")
            again = await until(session, "reply.done", turn=2)
            assert again[-1]["text"] == REPLY
        baseline = await server.settle()
        assert (baseline.sessions, baseline.rows) == (0, 0)
        await server.returns_to(baseline)


@pytest.mark.parametrize("model", ["asr", "llm"])
async def test_a_model_that_hangs_is_told_to_whoever_waits(model: str) -> None:
    with serving(fails=model, failure="hang", hangs_s=0.3) as server:
        async with connect(server.url) as session:
            began = time.monotonic()
            if model == "llm":
                await session.say("hello")
            else:
                await session.send(pcm(QUESTION))
            seen = await until(session, "error")
            assert "restart" in seen[-1]["message"]
            assert time.monotonic() - began < 1.5  # the step itself takes two seconds
            assert not server.ready()
            seen += [message async for message in session]
        if model == "llm":
            (done,) = (m for m in seen if m["type"] == "reply.done")
            assert done["reason"] == "failed"
        for _ in range(100):  # it came back after all
            if server.ready():
                break
            await asyncio.sleep(0.05)
        await server.returns_to(await server.settle())


async def test_a_failure_is_its_own_sessions_alone() -> None:
    with serving(fails="llm", times=2) as server:
        async with connect(server.url) as fine, connect(server.url) as failing:
            await failing.say("hello")
            await until(failing, "error")
            assert len([m for m in await good_turn(server.url) if m["type"] == "error"]) == 0
            await fine.say("hello")
            assert (await until(fine, "reply.done"))[-1]["text"] == REPLY
