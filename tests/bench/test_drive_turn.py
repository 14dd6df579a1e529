"""One turn against a scripted server, on a clock that takes no time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from textpro_stream.bench.drive import LEAD_S, Driver, best_offset, missing_time, silent_share
from textpro_stream.bench.questions import Question
from textpro_stream.clock import VirtualClock
from textpro_stream.contracts import FRAME, SAMPLE_RATE
from textpro_stream.errors import DeviceError

SPEECH_S = 1.0
BEHIND_S = 1000.0  # of the server's clock
END_S = LEAD_S + SPEECH_S
SOUND = {"type": "speech.audio", "duration_s": 0.1, "pcm": b"\0\0" * 30 + b"\0\x20" * 10}


@dataclass
class Scripted:
    """A server that says things once so much audio has come."""

    clock: VirtualClock
    script: list[tuple[float, dict[str, Any]]]  # seconds of audio, what is said then
    heard: int = 0
    commands: list[str] = field(default_factory=list)
    sent_at: list[float] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    out: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)

    async def send(self, audio: bytes, /) -> None:
        self.audio += audio
        self.heard += len(audio) // 2
        self.sent_at.append(self.clock.now())
        while self.script and self.heard >= self.script[0][0] * SAMPLE_RATE:
            message = self.script.pop(0)[1]
            if message["type"] == "speech.audio":
                message = message | {"wall_s": self.clock.now() - BEHIND_S}
            self.out.put_nowait(None if message["type"] == "closed" else message)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def command(self, kind: str, /, **fields: Any) -> None:
        self.commands.append(kind)
        if kind == "clock":
            there = self.clock.now() - BEHIND_S
            answer = {"type": "clock", "t0": fields["t0"], "t1": there, "t2": there}
            self.out.put_nowait(answer)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        yield {"type": "session.started"}
        while (message := await self.out.get()) is not None:
            yield message


def endpoint(turn: int, at_s: float, transcript: str = " Yes?") -> dict[str, Any]:
    return {"type": "turn.endpoint", "turn": turn, "at_s": at_s, "transcript": transcript}


def answered(turn: int, at_s: float, *, first_audio_s: float) -> list[tuple[float, dict[str, Any]]]:
    """What a server says of a turn that it ends at `at_s` and answers at `first_audio_s`."""
    speech_s = END_S - 0.04
    marks = {"server_perceived": first_audio_s - speech_s, "endpoint_wait": at_s - speech_s}
    return [
        (at_s, {"type": "speech.stopped", "turn": turn, "speech_s": speech_s}),
        (at_s, endpoint(turn, at_s)),
        (first_audio_s, {"type": "reply.started", "turn": turn}),
        (first_audio_s, SOUND | {"turn": turn}),
        (first_audio_s, {"type": "turn.latency", "turn": turn, **marks}),
    ]


@pytest.fixture
def question() -> Question:
    audio = np.full(round(SPEECH_S * SAMPLE_RATE), 0.25, np.float32)
    return Question("q", "1 s", "yes?", audio, len(audio), "synthesis")


async def ask(script, question, *, fast: bool = False, whole: bool = False):
    clock = VirtualClock(50.0)
    server = Scripted(clock, script)

    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[Scripted]:
        assert url == "ws://x"
        yield server

    turn = await Driver(connect, clock, whole=whole).ask("ws://x", "ours", question, fast=fast)
    return turn, server


async def test_the_wait_counts_from_the_label_by_the_clients_clock(question) -> None:
    turn, server = await ask(answered(1, 2.0, first_audio_s=2.1), question)
    assert turn.status == "ok"
    assert turn.client["user_perceived"] == pytest.approx(2.1 - END_S)
    assert turn.client["true_endpoint_delay"] == pytest.approx(2.0 - END_S)
    assert turn.client["speech_end_error"] == pytest.approx(-0.04)
    assert turn.client["unexplained"] == pytest.approx(0.0, abs=1e-6)
    assert turn.client["silent_lead"] == pytest.approx(0.075)
    assert (turn.endpoints, turn.false_endpoints, turn.transcript) == (1, 0, " Yes?")
    assert server.commands.count("stop") == 1


async def test_audio_is_sent_at_the_pace_of_speech_and_quiet_follows_it(question) -> None:
    _, server = await ask(answered(1, 2.0, first_audio_s=2.1), question)
    steps = np.diff(server.sent_at)
    assert steps == pytest.approx(FRAME / SAMPLE_RATE)
    samples = np.frombuffer(bytes(server.audio), "<i2") / 32767
    lead, end = round(LEAD_S * SAMPLE_RATE), round(END_S * SAMPLE_RATE)
    assert samples[lead:end] == pytest.approx(0.25, abs=1e-3)
    assert abs(samples[:lead]).max() < 1e-3
    assert abs(samples[end:]).max() < 1e-3


async def test_a_reply_in_the_middle_of_the_question_is_a_false_endpoint(question) -> None:
    early = answered(1, 1.0, first_audio_s=1.1)
    turn, _ = await ask([*early, *answered(2, 2.0, first_audio_s=2.2)], question)
    assert (turn.endpoints, turn.false_endpoints) == (2, 1)
    assert turn.client["user_perceived"] == pytest.approx(2.2 - END_S)


async def test_no_reply_is_no_result(question) -> None:
    turn, _ = await ask([], question)
    assert turn.status == "no reply"
    assert turn.client == {}


async def test_what_the_server_complains_of_is_told(question) -> None:
    script = [(1.0, {"type": "error", "message": "no room"}), (1.1, {"type": "closed"})]
    turn, _ = await ask(script, question)
    assert turn.status == "no room"


async def test_a_broken_connection_is_told(question) -> None:
    @asynccontextmanager
    async def connect(url: str) -> AsyncIterator[Scripted]:
        raise DeviceError("nobody answers")
        yield  # what makes it a generator

    turn = await Driver(connect, VirtualClock()).ask("ws://x", "ours", question)
    assert turn.status == "nobody answers"


async def test_for_those_who_only_record_the_last_second_alone_is_paced(question) -> None:
    paced, _ = await ask(answered(1, 2.0, first_audio_s=2.1), question)
    turn, server = await ask(answered(1, 2.0, first_audio_s=2.1), question, fast=True)
    assert turn.client["user_perceived"] == pytest.approx(paced.client["user_perceived"])
    n_fast = round((END_S - 1.0) * SAMPLE_RATE) // FRAME
    steps = np.diff(server.sent_at)
    assert steps[: n_fast - 1] == pytest.approx(FRAME / SAMPLE_RATE / 8)
    assert steps[n_fast:] == pytest.approx(FRAME / SAMPLE_RATE)


async def test_a_listener_hears_the_reply_out(question) -> None:
    given = {"type": "reply.given", "turn": 1, "text": "", "marks": {"server_perceived": 0.5}}
    script = [*answered(1, 2.0, first_audio_s=2.1)[:-1], (3.0, given)]
    turn, server = await ask(script, question, whole=True)
    assert turn.marks == {"server_perceived": 0.5}
    assert server.commands.count("stop") == 0


async def test_a_long_reply_is_heard_out_beyond_the_patience_for_none(question) -> None:
    given = {"type": "reply.given", "turn": 1, "text": "", "marks": {"server_perceived": 0.5}}
    script = [*answered(1, 2.0, first_audio_s=2.1)[:-1], (END_S + 40.0, given)]
    turn, _ = await ask(script, question, whole=True)
    assert turn.status == "ok"


def test_the_shortest_exchange_decides_about_the_clocks() -> None:
    stamps = [(0.0, 110.0, 110.0, 20.0), (30.0, 130.5, 130.5, 31.0), (40.0, 145.0, 145.0, 50.0)]
    offset = best_offset(stamps)
    assert offset.seconds == pytest.approx(100.0)
    assert offset.error_s == pytest.approx(0.5)


def test_silence_is_all_lead() -> None:
    assert silent_share(b"\0\0" * 10) == 1.0
    assert silent_share(b"\0\x40" * 10) == 0.0


def test_parts_that_miss_the_whole_are_told() -> None:
    client = {"user_perceived": 1.0, "speech_end_error": -0.1, "network": 0.01}
    assert missing_time(client, {"server_perceived": 0.8}) == {"unexplained": pytest.approx(0.29)}
    assert missing_time({}, {"server_perceived": 0.8}) == {}
