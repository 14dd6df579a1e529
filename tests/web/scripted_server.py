"""A server for the page without models: static files under the server's own headers, and a script.

It speaks the lean route: answers the clock, and plays a list of events whenever something that
the script waits for arrives. Tests reach into it to see what the page sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from array import array
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from textpro_stream.server.http import SECURITY, TYPES, content_security_policy

WEB = Path(__file__).parents[2] / "web"
RATE = 24_000  # Hz of the replies
INPUT_RATE = 16_000
CHUNK_S = 0.1

Event = dict[str, object]


def tone(duration_s: float, hz: float = 220.0) -> bytes:
    """A reply that can be heard: PCM16 at the reply's rate."""
    n = int(duration_s * RATE)
    wave = (int(8000 * math.sin(2 * math.pi * hz * i / RATE)) for i in range(n))
    return array("h", wave).tobytes()


class ScriptedServer:
    """One port for the page and its socket. `sessions` counts sockets, `got` is what they sent."""

    def __init__(self) -> None:
        self.got: list[Event] = []
        self.audio_bytes = 0
        self.sessions = 0
        self.protocols: list[str | None] = []
        self.offered: list[str] = []
        self.on_message: Callable[[Event], None] = lambda message: None
        self.on_audio: Callable[[float], None] = lambda seconds: None  # of this session so far
        self.refuse = False  # the socket, as a server does that wants another key
        self.missing: str | None = None  # files whose path holds this are not found
        self.port = 0
        self._server: Server | None = None
        self._socket: ServerConnection | None = None
        self._turn = 0
        self._heard_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; the second time on the same port as before."""
        self._server = await serve(
            self._session,
            "127.0.0.1",
            self.port,
            process_request=self._page,
            select_subprotocol=lambda _, offered: self._select(offered),
            compression=None,
            close_timeout=0.5,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close every socket as a server does that goes away."""
        for task in self._tasks:
            task.cancel()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def end(self, code: int, reason: str) -> None:
        """Close the present session."""
        assert self._socket is not None
        await self._socket.close(code, reason)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def sent(self, kind: str) -> list[Event]:
        """What the page sent of one type."""
        return [message for message in self.got if message["type"] == kind]

    # -- the script ---------------------------------------------------------------------------

    def send(self, kind: str, *, turn: int | None = None, **fields: object) -> None:
        """One event, now."""
        head = {
            "type": kind,
            "turn": self._turn if turn is None else turn,
            "at_s": round(self._heard_s, 3),
            "wall_s": round(self._now(), 4),
            "source": "page",
        }
        self._write(json.dumps(head | fields))

    def audio(self, pcm: bytes, *, turn: int | None = None) -> None:
        """Reply audio, as events with their binary frames."""
        size = int(CHUNK_S * RATE) * 2
        for start in range(0, len(pcm), size):
            chunk = pcm[start : start + size]
            at = {"start_s": start / 2 / RATE, "duration_s": len(chunk) / 2 / RATE}
            self.send("speech.audio", turn=turn, **at)
            self._write(chunk)

    def next_turn(self) -> int:
        """The events that follow belong to a new turn."""
        self._turn += 1
        return self._turn

    def play(self, events: list[Event], *, shift_s: float = 0.0) -> None:
        """Recorded events of one turn, at once; their times on the audio clock are moved."""
        for event in events:
            fields = {key: value for key, value in event.items() if key not in SCRIPT_SETS}
            kind = str(event["type"])
            for name in ("start_s", "end_s", "speech_s"):
                if isinstance(fields.get(name), float | int) and kind != "speech.audio":
                    fields[name] += shift_s
            if "tokens" in fields:
                fields["tokens"] = [
                    token | {name: token[name] + shift_s for name in ("start_s", "end_s")}
                    for token in fields["tokens"]
                ]
            self.send(kind, **fields)

    # -- the server ---------------------------------------------------------------------------

    def _write(self, data: str | bytes) -> None:
        socket = self._socket
        if socket is None:
            return
        previous = self._last

        async def write() -> None:
            if previous is not None:
                await asyncio.wait([previous])
            with contextlib.suppress(ConnectionClosed):
                await socket.send(data)

        self._last = asyncio.ensure_future(write())
        self._tasks.add(self._last)
        self._last.add_done_callback(self._tasks.discard)

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._begun

    def _select(self, offered: list[str]) -> str | None:
        self.offered = list(offered)
        return "textpro" if "textpro" in offered else None

    def _page(self, connection: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        if path == "/v1/stream":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "no\n") if self.refuse else None
        file = WEB / ("index.html" if path == "/" else path.lstrip("/"))
        is_missing = self.missing is not None and self.missing in path
        if path != "/readyz" and (is_missing or not file.is_file()):
            return connection.respond(HTTPStatus.NOT_FOUND, "no such page\n")
        body = b"ok\n" if path == "/readyz" else file.read_bytes()
        kind = "text/plain" if path == "/readyz" else TYPES[file.suffix]
        policy = content_security_policy(f"127.0.0.1:{self.port}")
        headers = SECURITY | {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "Connection": "close",
        }
        return Response(200, "OK", Headers(headers), body)

    async def _session(self, socket: ServerConnection) -> None:
        self.sessions += 1
        self._socket, self._last = socket, None
        self._turn, self._heard_s = 0, 0.0
        self._begun = asyncio.get_running_loop().time()
        self.protocols.append(socket.subprotocol)
        started = {
            "type": "session.started",
            "session": f"s{self.sessions}",
            "reply_rate_hz": RATE,
            "input_rate_hz": INPUT_RATE,
            "version": "0",
            "models": {"asr": "script", "llm": "script", "voice": "script"},
            "limits": {},
        }
        self._write(json.dumps(started))
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                self._read(message)

    def _read(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.audio_bytes += len(message)
            self._heard_s += len(message) / 2 / INPUT_RATE
            self.on_audio(self._heard_s)
            return
        value = json.loads(message)
        self.got.append(value)
        if value["type"] == "clock":
            now = self._now()
            self._write(json.dumps({"type": "clock", "t0": value["t0"], "t1": now, "t2": now}))
            return
        self.on_message(value)


SCRIPT_SETS = {"type", "turn", "at_s", "wall_s", "source"}  # given anew for each session
