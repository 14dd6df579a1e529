"""One spoken turn over the socket, timed by the client's own clock.

The client is a microphone: it sends each 20 ms when its last sample would have been spoken, then
quiet, until the first sound of the reply has arrived. What it notes is on its own monotonic clock;
what the server says comes with the server's; a four-stamp exchange ties them together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from textpro_stream.audio.pcm import encode_pcm16
from textpro_stream.bench.questions import AUDIBLE, Question
from textpro_stream.contracts import FRAME, SAMPLE_RATE, seconds
from textpro_stream.errors import DeviceError, TextproError
from textpro_stream.ports import ClientSession, Clock

LEAD_S = 0.5  # of quiet before the question, as a person leaves
NOISE = 1e-4  # full scale, -80 dBFS: what a good microphone gives in a quiet room
GIVES_UP_S = 20.0  # without a sound, after the end of speech
HEARS_OUT_S = 60.0  # of reply, for those who do
FAST = 8.0  # times real time, for those who only record
PACED_S = 1.0  # before the end of speech, from which the pace is real for everybody
HEAD = frozenset({"type", "turn", "at_s", "wall_s", "source"})  # of every message
EXCHANGES = 8  # of clock stamps; the one with the shortest way counts
ADDS_UP_S = 0.010  # parts that miss the whole by more mean that the clocks are wrong


Connect = Callable[[str], AbstractAsyncContextManager[ClientSession]]


def open_session(key: str | None) -> Connect:
    """Sessions of the lean route, through our own client."""
    from textpro_stream.client import connect

    return lambda url: connect(url, key=key)


async def greeting(connect: Connect, url: str) -> dict[str, Any]:
    """What a server says of itself to whoever comes in.

    Raises:
        DeviceError: nobody answers there, or we are not let in.
    """
    async with connect(url) as session:
        async for message in session:
            return message
    raise DeviceError(f"{url}: the server closed at once; is it another program?")


@dataclass(slots=True)
class Offset:
    """The server's clock less ours, and how wrong that may be."""

    seconds: float
    error_s: float  # half the way there and back
    n: int  # exchanges


@dataclass(slots=True)
class Turn:
    """What became of one question. Times are seconds."""

    system: str
    question: str
    group: str
    speech_s: float
    label: str
    status: str = "ok"  # or "no reply", or what the server said
    endpoints: int = 0  # of turns with words
    false_endpoints: int = 0  # of them, those that the speaker went on after
    transcript: str = ""  # of all its turns
    marks: dict[str, float] = field(default_factory=dict)  # of turn.latency
    client: dict[str, float] = field(default_factory=dict)  # see `_client_figures`
    load: dict[str, float] = field(default_factory=dict)  # of the machine, while it ran

    def figure(self, name: str) -> float | None:
        """One figure, the client's or the server's."""
        return self.client.get(name, self.marks.get(name))

    def as_json(self) -> dict[str, Any]:
        """As written to the results."""
        return asdict(self)


class Driver:
    """Asks one question in a session of its own.

    Args:
        connect: opens a session.
        clock: of the client.
        whole: hear the reply out, as a listener does; otherwise it is stopped after its first
            sound, which costs no figure and saves the time of playing it.
    """

    def __init__(self, connect: Connect, clock: Clock, *, whole: bool = False) -> None:
        self._connect, self._clock, self._whole = connect, clock, whole

    async def ask(self, url: str, system: str, question: Question, *, fast: bool = False) -> Turn:
        """One turn.

        Args:
            url: of the lean route.
            system: what answers there, for the result.
            question: what to say.
            fast: up to `PACED_S` before the end of speech, send faster than anybody speaks. Only
                for a system that does no more than detect voice until then.
        """
        turn = Turn(system, question.id, question.group, seconds(question.speech_end), "")
        turn.label = question.label
        try:
            async with asyncio.timeout(3 * turn.speech_s + 2 * GIVES_UP_S + HEARS_OUT_S):
                async with self._connect(url) as session:
                    await _Asking(session, self._clock, question, turn, fast, self._whole).run()
        except TimeoutError:
            turn.status = "no reply"
        except TextproError as error:
            turn.status = str(error)
        return turn


class _Asking:
    """One turn under way."""

    def __init__(
        self,
        session: ClientSession,
        clock: Clock,
        question: Question,
        turn: Turn,
        fast: bool,
        whole: bool,
    ) -> None:
        self._session, self._clock, self._result = session, clock, turn
        self._fast, self._whole = fast, whole
        rng = np.random.default_rng(0)
        quiet = rng.normal(0, NOISE, SAMPLE_RATE)
        lead = quiet[: round(LEAD_S * SAMPLE_RATE)]
        after = np.tile(quiet, round(GIVES_UP_S + HEARS_OUT_S))
        audio = np.concatenate([lead, question.audio, after])
        self._pcm = encode_pcm16(audio)
        self._end = len(lead) + question.speech_end  # samples; where speech ends
        self._patience = self._end + round(GIVES_UP_S * SAMPLE_RATE)
        self._began = 0.0  # when the sample at 0 would have been spoken
        self._sent_late = 0.0
        self._ready = asyncio.Event()  # the session has started
        self._stamps: list[tuple[float, float, float, float]] = []
        self._answered = asyncio.Event()  # a stamp came back
        self._speech_stopped: dict[int, float] = {}
        self._endpoints: dict[int, float] = {}  # turns that are answered, by the audio clock
        self._first: dict[int, tuple[float, float]] = {}  # received here, sent there
        self._silent_lead: dict[int, float] = {}  # seconds of silence that it begins with
        self._token: dict[int, float] = {}

    async def run(self) -> None:
        """Speak and listen until the turn is over."""
        sending = asyncio.create_task(self._send(), name="speak")
        listening = asyncio.create_task(self._listen(), name="listen")
        try:
            await asyncio.wait([sending, listening], return_when=asyncio.FIRST_COMPLETED)
            if not listening.done():
                sending.result()  # it ended first: nobody answered, or it failed
                self._result.status = "no reply"
            else:
                listening.result()
        finally:
            for task in (sending, listening):
                task.cancel()
            await asyncio.wait([sending, listening])

    async def _send(self) -> None:
        await self._ready.wait()
        for _ in range(EXCHANGES):
            self._answered.clear()
            await self._session.command("clock", t0=self._clock.now())
            await self._answered.wait()
        start = 0
        if self._fast:
            start = max(0, self._end - round(PACED_S * SAMPLE_RATE)) // FRAME * FRAME
            began = self._clock.now()
            for at in range(0, start, FRAME):
                await self._clock.sleep_until(began + seconds(at + FRAME) / FAST)
                await self._frame(at)
        self._began = self._clock.now() - seconds(start)
        for at in range(start, len(self._pcm) // 2, FRAME):
            if at > self._patience and not any(map(self._is_last, self._first)):
                return
            due = self._began + seconds(at + FRAME)
            await self._clock.sleep_until(due)
            if at <= self._end:
                self._sent_late = max(self._sent_late, self._clock.now() - due)
            await self._frame(at)

    async def _frame(self, at: int) -> None:
        await self._session.send(self._pcm[2 * at : 2 * (at + FRAME)])

    async def _listen(self) -> None:
        async for message in self._session:
            now = self._clock.now()
            kind, turn = message["type"], message.get("turn", 0)
            if kind == "session.started":
                self._ready.set()
            elif kind == "clock":
                self._stamps.append((message["t0"], message["t1"], message["t2"], now))
                self._answered.set()
            elif kind == "speech.stopped":
                self._speech_stopped[turn] = message["speech_s"]
            elif kind == "turn.endpoint" and message.get("replies", True):
                self._endpoints[turn] = message["at_s"]
                self._result.transcript += message["transcript"]
            elif kind in ("reply.started", "reply.delta"):
                self._token.setdefault(turn, now)
            elif kind == "speech.audio" and turn not in self._first:
                self._first[turn] = (now, message["wall_s"])
                self._silent_lead[turn] = message["duration_s"] * silent_share(message["pcm"])
                if self._is_last(turn) and not self._whole:
                    await self._session.command("stop")
            elif kind == "reply.given" and self._whole and self._is_last(turn):
                self._conclude(turn, message["marks"])
                return
            elif kind == "turn.latency" and self._is_last(turn):
                self._conclude(turn, message)
                return
            elif kind == "error":
                self._result.status = str(message.get("message", "error"))
        if self._result.status == "ok":
            self._result.status = "the server closed the connection"

    def _is_last(self, turn: int) -> bool:
        """The question had been said when this turn ended."""
        return self._endpoints.get(turn, 0.0) >= seconds(self._end)

    def _conclude(self, turn: int, message: dict[str, Any]) -> None:
        result = self._result
        marks = {k: float(v) for k, v in message.items() if k not in HEAD}
        result.marks = marks
        result.endpoints = len(self._endpoints)
        result.false_endpoints = sum(at < seconds(self._end) for at in self._endpoints.values())
        speech_end = self._began + seconds(self._end)
        offset = best_offset(self._stamps)
        client = {
            "clock_error": offset.error_s,
            "sent_late": self._sent_late,
            "true_endpoint_delay": self._endpoints[turn] - seconds(self._end),
        }
        if turn in self._speech_stopped:
            client["speech_end_error"] = self._speech_stopped[turn] - seconds(self._end)
        if turn in self._first:
            received, sent = self._first[turn]
            client["user_perceived"] = received - speech_end
            client["silent_lead"] = self._silent_lead[turn]
            client["network"] = received - (sent - offset.seconds) + offset.error_s
        if turn in self._token:
            client["first_token_seen"] = self._token[turn] - speech_end
        client |= missing_time(client, marks)
        result.client = client


def silent_share(pcm: bytes) -> float:
    """Share of a piece of PCM16 that lies before its first audible sample."""
    samples = np.frombuffer(pcm, "<i2")
    audible = np.flatnonzero(np.abs(samples.astype(np.int32)) > AUDIBLE * 32767)
    first = audible[0] if len(audible) else len(samples)
    return float(first / max(1, len(samples)))


def best_offset(stamps: list[tuple[float, float, float, float]]) -> Offset:
    """From four-stamp exchanges: (sent, received there, sent there, received back).

    As NTP does it: the exchange with the shortest way there and back is the least wrong, and it is
    wrong by at most half of that.
    """
    way, offset = min(
        ((back - sent) - (there_out - there_in), ((there_in - sent) + (there_out - back)) / 2)
        for sent, there_in, there_out, back in stamps
    )
    return Offset(offset, max(0.0, way / 2), len(stamps))


def missing_time(client: dict[str, float], marks: dict[str, float]) -> dict[str, float]:
    """By how much the parts of the wait miss the whole, as `unexplained`; empty without sound.

    What the listener waited is what the server saw, moved by how far it misjudged the end of
    speech, and the way there and back. The first is measured by the client's clock alone, the
    others by the server's and by audio positions.
    """
    wanted = ("user_perceived", "speech_end_error", "network")
    if not all(name in client for name in wanted) or "server_perceived" not in marks:
        return {}
    known = client["speech_end_error"] + marks["server_perceived"] + client["network"]
    return {"unexplained": client["user_perceived"] - known}
