"""A client of the lean route, `textpro serve`'s `/v1/stream`. Needs no model and no torch.

async with connect("ws://127.0.0.1:8765/v1/stream") as session:
    await session.say("What time is it?")
    async for message in session:
        print(message["type"])
"""

from __future__ import annotations

import inspect
import ipaddress
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.typing import Subprotocol

from textpro_stream.audio.pcm import encode_pcm16
from textpro_stream.contracts import AudioChunk
from textpro_stream.errors import DeviceError

PROTOCOL = Subprotocol("textpro")
MAX_MESSAGE = 2**22  # bytes; a prosody window with its vector is the longest


@asynccontextmanager
async def connect(url: str, *, key: str | None = None, **start: Any) -> AsyncIterator[Session]:
    """Open a session; leaving the block closes it.

    Args:
        url: ws://HOST:PORT/v1/stream, or wss://.
        key: where the server asks for one.
        start: fields of the `start` message: source, live, voice, replies, barge_in,
            push_to_talk, vectors.

    Raises:
        DeviceError: nobody answers there, or we are not let in.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        connection = await open_socket(
            url,
            additional_headers=headers,
            subprotocols=[PROTOCOL],
            compression=None,
            max_size=MAX_MESSAGE,
            **way_to(url),
        )
    except InvalidStatus as error:
        body = (error.response.body or b"").decode(errors="replace").strip()
        status = error.response.status_code
        raise DeviceError(f"{url}: refused with {status}: {body}", status=status) from None
    except OSError as error:
        raise DeviceError(
            f"{url}: nobody answers ({error}); start the server with textpro serve"
        ) from None
    async with connection:
        session = Session(connection)
        if start:
            await session.command("start", **start)
        yield session


def way_to(url: str) -> dict[str, Any]:
    """Arguments of websockets' `connect`: no proxy leads to this machine, whatever is set."""
    host = urlsplit(url).hostname or ""
    own = host in ("localhost", socket.gethostname().lower())
    with suppress(ValueError):
        own = own or ipaddress.ip_address(host).is_loopback
    knows_proxies = "proxy" in inspect.signature(open_socket.__init__).parameters  # from 15 on
    return {"proxy": None} if own and knows_proxies else {}


class Session:
    """One conversation with a server, from the client's side. Iterate it for its messages."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, audio: bytes | AudioChunk) -> None:
        """Send microphone audio: PCM16 little-endian at 16 kHz, cut as you like, or a chunk."""
        if isinstance(audio, AudioChunk):
            audio = encode_pcm16(audio.samples)
        await self._send(audio)

    async def say(self, text: str) -> None:
        """Type a turn."""
        await self.command("say", text=text)

    async def press(self) -> None:
        """Push-to-talk: the key went down."""
        await self.command("press")

    async def release(self) -> None:
        """Push-to-talk: the key went up."""
        await self.command("release")

    async def stop(self) -> None:
        """Stop the reply that is being given."""
        await self.command("stop")

    async def end(self) -> None:
        """No more audio comes: the open turn is answered, then the session is over."""
        await self.command("end")

    async def heard(self, turn: int, samples: int) -> None:
        """Report how much of a turn's reply audio has left the loudspeaker."""
        await self.command("heard", turn=turn, samples=samples)

    async def command(self, kind: str, /, **fields: Any) -> None:
        """Send any text message."""
        await self._send(json.dumps({"type": kind, **fields}))

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Every message, until the server closes; `speech.audio` has its samples under `pcm`.

        Raises:
            DeviceError: the connection broke, or the server ended it for a reason of its own.
        """
        audio: dict[str, Any] | None = None
        while True:
            try:
                received = await self._socket.recv()
            except ConnectionClosedOK:
                return
            except ConnectionClosed as error:
                raise _closed(error) from None
            if isinstance(received, bytes):
                if audio is not None:
                    yield {**audio, "pcm": received}
                audio = None
                continue
            message: dict[str, Any] = json.loads(received)
            if message.get("type") == "speech.audio":
                audio = message  # its samples are the next frame
            else:
                yield message

    async def _send(self, message: str | bytes) -> None:
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from None


def _closed(error: ConnectionClosed) -> DeviceError:
    if error.rcvd is None:
        return DeviceError("the connection to the server broke; connect again")
    reason = error.rcvd.reason or "no reason given"
    return DeviceError(f"the server closed with {error.rcvd.code}: {reason}", code=error.rcvd.code)
