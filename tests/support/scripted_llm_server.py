"""An OpenAI-compatible server that answers as it is told, over a real socket.

It says what each request gets: words, refusals, silence, a cut in the middle. What it was asked
stays to be looked at.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    body: Json
    left: asyncio.Event = field(default_factory=asyncio.Event)  # the client hung up before the end

    @property
    def words(self) -> str:
        """What the user said last."""
        text: str = self.body["messages"][-1]["content"]
        return text

    @property
    def roles(self) -> list[str]:
        return [message["role"] for message in self.body["messages"]]


@dataclass(frozen=True)
class Says:
    """A streamed answer, or one piece of JSON where no stream was asked for."""

    pieces: Sequence[str | Json] = ("Fine", ".")  # text, or a whole delta
    finish: str = "stop"
    usage: Json | None = field(
        default_factory=lambda: {
            "prompt_tokens": 40,
            "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 32},
        }
    )
    timings: Json | None = None
    cut: bool = False  # the connection breaks behind the pieces
    stall: bool = False  # nothing comes behind the pieces
    error: Json | None = None  # behind the pieces


@dataclass(frozen=True)
class Refuses:
    """An error status."""

    status: int
    body: str = '{"error": {"message": "no"}}'
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Hangs:
    """No answer, until the client hangs up."""


@dataclass(frozen=True)
class Drops:
    """The connection is closed without an answer."""


@dataclass(frozen=True)
class Sends:
    """This, as a whole."""

    text: str
    kind: str = "text/html"


Answer = Says | Refuses | Hangs | Drops | Sends


class ScriptedLlmServer:
    """Start it with `running`.

    Attributes:
        replies: answers to streamed requests, used up in their order; then `Says()`.
        prefills: the same for those that are not streamed.
        models: what `/v1/models` lists; None: there is no such list.
        asked: all POST requests.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.replies: deque[Answer] = deque()
        self.prefills: deque[Answer] = deque()
        self.models: list[Json] | None = [{"id": "small", "owned_by": "somebody"}]
        self.slots = 0  # of /props
        self.key = ""  # that it wants
        self.asked: list[Asked] = []
        self.connections = 0
        self._news = asyncio.Condition()
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def replied(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.body.get("stream")]

    @property
    def prefilled(self) -> list[Asked]:
        return [asked for asked in self.asked if not asked.body.get("stream")]

    async def until(self, n_replies: int = 0, n_prefills: int = 0) -> None:
        """Wait until so many have been asked for."""
        async with self._news, asyncio.timeout(20):
            await self._news.wait_for(
                lambda: len(self.replied) >= n_replies and len(self.prefilled) >= n_prefills
            )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedLlmServer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self._open.values():
                writer.close()
            if self._open:
                await asyncio.wait(self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            del self._open[task]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head[1:])
        }
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        if method == "GET":
            return await self._list(path, writer)
        asked = Asked(path, headers, json.loads(content))
        async with self._news:
            self.asked.append(asked)
            self._news.notify_all()
        script = self.replies if asked.body.get("stream") else self.prefills
        answer: Answer = script.popleft() if script else Says()
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            answer = Refuses(401)
        match answer:
            case Refuses(status=status, body=body, headers=more):
                return await _send(writer, body, "application/json", status=status, more=more)
            case Sends(text=text, kind=kind):
                return await _send(writer, text, kind)
            case Drops():
                return False
            case Hangs():
                await reader.read(1)
                asked.left.set()
                return False
            case Says() if not asked.body.get("stream"):
                whole = {
                    "choices": [{"message": {"content": "F"}, "finish_reason": "length"}],
                    "usage": answer.usage,
                }
                return await _send(writer, json.dumps(whole), "application/json")
            case Says():
                return await self._stream(answer, asked, reader, writer)

    async def _stream(
        self,
        answer: Says,
        asked: Asked,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        await _head(writer, 200, "text/event-stream", (("Transfer-Encoding", "chunked"),))
        await _chunk(writer, ": ping\n\n")
        for piece in answer.pieces:
            delta = {"content": piece} if isinstance(piece, str) else piece
            await _event(writer, {"choices": [{"delta": delta, "finish_reason": None}]})
        if answer.cut:
            return False
        if answer.stall:
            await reader.read(1)
            asked.left.set()
            return False
        if answer.error is not None:
            await _event(writer, {"error": answer.error})
        else:
            await _event(writer, {"choices": [{"delta": {}, "finish_reason": answer.finish}]})
            if answer.usage is not None or answer.timings is not None:
                figures = {"usage": answer.usage, "timings": answer.timings}
                await _event(writer, {"choices": [], **figures})
        await _chunk(writer, "data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _list(self, path: str, writer: asyncio.StreamWriter) -> bool:
        if path == "/props" and self.slots:
            return await _send(writer, json.dumps({"total_slots": self.slots}), "application/json")
        if path == "/v1/models" and self.models is not None:
            return await _send(writer, json.dumps({"data": self.models}), "application/json")
        return await _send(writer, '{"error": "not here"}', "application/json", status=404)


async def _event(writer: asyncio.StreamWriter, value: Json) -> None:
    await _chunk(writer, f"data: {json.dumps(value)}\n\n")


async def _chunk(writer: asyncio.StreamWriter, text: str) -> None:
    data = text.encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


async def _send(
    writer: asyncio.StreamWriter,
    text: str,
    kind: str,
    *,
    status: int = 200,
    more: Sequence[tuple[str, str]] = (),
) -> bool:
    data = text.encode()
    await _head(writer, status, kind, (("Content-Length", str(len(data))), *more))
    writer.write(data)
    await writer.drain()
    return True


async def _head(
    writer: asyncio.StreamWriter, status: int, kind: str, more: Sequence[tuple[str, str]]
) -> None:
    lines = [f"HTTP/1.1 {status} said", f"Content-Type: {kind}", *(f"{n}: {v}" for n, v in more)]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    await writer.drain()
