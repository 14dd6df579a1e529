"""The server: one port for the page, the WebSocket routes, health and metrics.

    async with Server(engine, ServerOptions(port=0)) as server:
        print(server.port)

It decides who comes in and how everybody leaves; what is said in between is the routes' work.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from textpro_stream.clock import MonotonicClock
from textpro_stream.commands import Say
from textpro_stream.config import ServerOptions
from textpro_stream.errors import ConfigError, TextproError, unwrap
from textpro_stream.events import ReplyAudio, ReplyEnded
from textpro_stream.ports import Clock, OpenTalk
from textpro_stream.server import lean
from textpro_stream.server.admission import Admission, path_of
from textpro_stream.server.context import ServerContext
from textpro_stream.server.fields import encoded_bytes
from textpro_stream.server.http import Answers, page_folder
from textpro_stream.server.hub import Hub
from textpro_stream.server.lag import watch_lag
from textpro_stream.server.limits import (
    DONE,
    FAILED,
    GOING_AWAY,
    OVERLOADED,
    Hangup,
    Slots,
)
from textpro_stream.server.metrics import Metrics
from textpro_stream.server.realtime import route as realtime
from textpro_stream.server.security import (
    ANY_ADDRESS,
    Gate,
    Redact,
    check_bind,
    is_loopback,
    read_keys,
)
from textpro_stream.server.session import Route, SessionContext
from textpro_stream.server.tls import tls_context

if TYPE_CHECKING:
    from textpro_stream.pipeline import Engine

log = logging.getLogger(__name__)
wire_log = logging.getLogger(f"{__name__}.websockets")

# Linux lets a send buffer grow to 4 MiB: a minute of audio that no barge-in could take back. The
# kernel doubles what is asked for.
SEND_BUFFER = 65_536  # bytes
BACKLOG = 256  # connects at once that wait their turn instead of being refused by the kernel
OPEN_S = 10.0  # for a handshake
PING_S = 20.0  # between pings, and for their answers
FAREWELL_S = 10.0  # for a client to take what was written and to say goodbye itself
REASON_BYTES = 123  # that a closing frame has room for


ROUTES = {route.path: route for route in (lean.ROUTE, realtime.ROUTE)}


class Server:
    """Serves an engine's conversations. Enter it to listen; leaving it drains and closes.

    Args:
        engine: loaded; it stays open when the server closes.
        options: all of `[server]`.
        open_conversation: what gives a client its conversation; the engine's `open`, if not
            given.
        clock: for tests.

    Raises:
        ConfigError: on entering: the address cannot be had, or must not be without a key.
    """

    def __init__(
        self,
        engine: Engine,
        options: ServerOptions,
        *,
        open_conversation: OpenTalk | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._keys = read_keys(options)
        check_bind(options, self._keys)
        # The page cannot ask for a key; it gets one for as long as this process runs.
        self.page_code = secrets.token_urlsafe(24) if self._keys else ""
        if self.page_code:
            self._keys["page"] = self.page_code
        self.metrics = Metrics()
        self.hub = Hub()
        self._clock = clock or MonotonicClock()
        self._context = ServerContext(
            engine,
            options,
            open_conversation or engine.open,
            self.hub,
            self.metrics,
            asyncio.Event(),
        )
        self._tls = tls_context(options)
        self._slots = Slots(options.max_sessions, options.max_sessions_per_ip, self._crowded)
        self._admission = Admission(
            self._context,
            Gate(options, self._keys, secure=self._tls is not None),
            Answers(page_folder()),
            self._slots,
            ROUTES,
            self._clock,
        )
        self._sessions: dict[str, tuple[SessionContext, Route]] = {}
        self._listener: Listener | None = None
        self._lag: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The real one, also where 0 was asked for."""
        assert self._listener is not None, "enter the server first"
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def secure(self) -> bool:
        """We speak TLS."""
        return self._tls is not None

    @property
    def host_elsewhere(self) -> str:
        """How other machines reach this one; "" where they cannot."""
        host = self._context.options.host
        if is_loopback(host):
            return ""
        return socket.gethostname() if host in ANY_ADDRESS else host

    def url(self, scheme: str, path: str = "/", *, host: str = "") -> str:
        """An address of this server.

        Args:
            scheme: "http" or "ws"; their secure forms are used where we speak TLS.
            path: from the slash on.
            host: how it is reached; from this machine, if not given.
        """
        if not host:
            host = self._context.options.host
            host = "::1" if host == "::" else "127.0.0.1" if host in ANY_ADDRESS else host
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}{'s' if self.secure else ''}://{host}:{self.port}{path}"

    @property
    def ready(self) -> bool:
        """A client that comes now gets a good conversation."""
        return self._admission.ready

    async def __aenter__(self) -> Self:
        wire_log.addFilter(Redact())
        options = self._context.options
        self._listener = await serve(
            self._welcome,
            sock=listening_socket(options.host, options.port),
            ssl=self._tls,
            process_request=self._admission.receive,
            select_subprotocol=_select_protocol,
            server_header=None,
            compression=None,  # base64 audio gains nothing, and a bomb would unfold
            open_timeout=OPEN_S,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            close_timeout=FAREWELL_S,
            max_size=max(options.message_bytes, encoded_bytes(options.append_bytes)),
            logger=wire_log,
        )
        observe = self.metrics.loop_lag.observe
        self._lag = asyncio.create_task(watch_lag(observe), name="lag")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._lag is not None:
            self._lag.cancel()
        await self.drain()

    async def warm_up(self) -> None:
        """Answer once, to nobody: what is made at first use is not the first client's wait."""
        self._admission.warm = False
        try:
            async with self._context.open_conversation(live=False) as talk:
                await talk.push(Say(talk.next_turn(), "Hello."))
                async for event in talk:
                    if isinstance(event, ReplyAudio | ReplyEnded):
                        break
        except TextproError as error:
            log.warning("warming up failed: %s", error)
        finally:
            self._admission.warm = True

    async def drain(self) -> None:
        """Stop accepting, let replies that are being given end, say goodbye, close. Idempotent."""
        listener, draining = self._listener, self._context.draining
        if listener is None:
            return
        if not draining.is_set():
            draining.set()
            listener.close(close_connections=False)
            for session, route in self._sessions.values():
                session.sender.send(route.error("server_shutdown", "the server is being stopped"))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._context.options.drain_s):
                    await self.hub.settled()
            for session, _ in tuple(self._sessions.values()):
                session.hang_up(Hangup("", "going away", GOING_AWAY))
        try:
            async with asyncio.timeout(FAREWELL_S / 5):
                await listener.wait_closed()
        except TimeoutError:
            for connection in tuple(listener.connections):
                connection.transport.abort()

    # A session

    def _crowded(self) -> bool:
        bound = self._context.options.max_late_s
        return bool(bound) and self._context.engine.late_s > bound

    async def _welcome(self, connection: ServerConnection) -> None:
        assert connection.request is not None, "the handshake is over"
        route = ROUTES[path_of(connection.request)]
        address = self._admission.address_of(connection, connection.request)
        if not self._slots.take(address):
            self.metrics.refuse("overloaded")
            full = Hangup("overloaded", "no room for another session; try again later", OVERLOADED)
            await self._farewell(connection, route, full)
            return
        self.metrics.opened.labels(route.name).inc()
        session = SessionContext(connection, self._context, route.name, clock=self._clock)
        self._sessions[session.session_id] = session, route
        try:
            with self.metrics.sessions.labels(route.name).track_inprogress():
                ending = await self._hold(connection, session, route)
        finally:
            del self._sessions[session.session_id]
            self._slots.release(address)
        if ending is not None:
            self.metrics.hangups.labels(ending.closing).inc()
            await self._farewell(connection, route, ending)

    async def _hold(
        self, connection: ServerConnection, session: SessionContext, route: Route
    ) -> Hangup | None:
        """One session; how to say goodbye, None where nobody is there to hear it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(session.sender.run(), name="send"),
                    tasks.create_task(session.watch(), name="watch"),
                ]
                await route.serve(connection, session)
                await session.sender.flush()
                for task in beside:
                    task.cancel()
        except Exception as problem:
            cause = unwrap(problem)
            if isinstance(cause, Hangup):
                return cause
            if isinstance(cause, ConnectionClosed):
                return None
            what = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
            log.error("a session failed (%s)", what)
            log.debug("it failed here", exc_info=cause)
            return Hangup("internal", "the server failed here; open another session", FAILED)
        return Hangup("", "done", DONE)

    async def _farewell(self, connection: ServerConnection, route: Route, ending: Hangup) -> None:
        reason = ending.message.encode()[:REASON_BYTES].decode(errors="ignore")
        # Behind what is still unread lies the client's goodbye; unread, it would never be seen.
        rest = asyncio.create_task(_discard(connection), name="discard")
        try:
            async with asyncio.timeout(FAREWELL_S):
                if ending.code:
                    self.metrics.errors.labels(ending.code).inc()
                    with suppress(ConnectionClosed):
                        await connection.send(route.error(ending.code, ending.message))
                await connection.close(ending.closing, reason)
        except TimeoutError:
            connection.transport.abort()
        finally:
            rest.cancel()
            await asyncio.wait([rest])


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket whose clients cannot hide how slowly they read.

    Raises:
        ConfigError: the address cannot be had.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--host {host} --port {port}: no such address ({error})") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        bound.bind(address)
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            what = "is taken by another program; give --port another number, or 0 for any"
        elif error.errno == errno.EACCES:
            what = "is not for ordinary users; give a --port above 1023"
        else:
            what = f"cannot be had ({error.strerror}); give another --host or --port"
        raise ConfigError(f"{host}:{port} {what}", host=host, port=port) from None
    return bound


async def _discard(connection: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        async for _ in connection:
            pass


def _select_protocol(
    connection: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """The route's own, if it was offered; never the one that holds a key. None is fine too."""
    assert connection.request is not None, "it was read before"
    route = ROUTES.get(path_of(connection.request))
    return Subprotocol(route.protocol) if route and route.protocol in offered else None
