"""What happens to a request before it is a session: refused, answered over HTTP, or let in."""

from __future__ import annotations

import logging
from collections.abc import Collection
from http import HTTPStatus
from typing import TYPE_CHECKING

from textpro_stream.ports import Clock
from textpro_stream.server.http import METHODS, Answers, plain, respond, without_body
from textpro_stream.server.limits import Bucket, Slots
from textpro_stream.server.metrics import CONTENT_TYPE, RefusalReason
from textpro_stream.server.proxies import Proxies, came_through_one
from textpro_stream.server.security import Gate, is_loopback, key_of, listed

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.datastructures import Headers
    from websockets.http11 import Request, Response

    from textpro_stream.server.context import ServerContext

log = logging.getLogger(__name__)

GUESSES, GUESSES_PER_S = 10, 1 / 6  # wrong keys of one address; then it waits
NO_SUCH_NAME = "this server has another name; a further one is told with --server-name"
NO_SUCH_PAGE = "pages from elsewhere stay outside; one is let in with --origin"
MAX_ADDRESSES = 1000  # whose guesses are remembered


class Admission:
    """Decides by the request alone; no model knows of those who are refused.

    Args:
        context: what sessions share.
        gate: whom to let in.
        answers: makes HTTP responses.
        slots: sessions that there is room for.
        sockets: the paths that are WebSockets.
        clock: for the guesses.
    """

    def __init__(
        self,
        context: ServerContext,
        gate: Gate,
        answers: Answers,
        slots: Slots,
        sockets: Collection[str],
        clock: Clock,
    ) -> None:
        self._context, self._gate, self._answers = context, gate, answers
        self._slots, self._sockets, self._clock = slots, sockets, clock
        self._proxies = Proxies(listed(context.options.proxies))
        self._told_of_proxy = bool(self._proxies)
        self._guesses: dict[str, Bucket] = {}
        self.warm = True  # the models have answered once, or nobody asks that of them

    @property
    def ready(self) -> bool:
        """A client that comes now gets a good conversation."""
        return not self._unready

    def receive(self, connection: ServerConnection, request: Request) -> Response | None:
        """A response; None lets the WebSocket handshake go on."""
        method = getattr(request, "method", "GET")  # websockets before 17 knows no other
        path = path_of(request)
        hosts = request.headers.get_all("Host")
        if len(hosts) != 1 or not self._gate.knows_host(hosts[0]):
            return self._refuse("host", HTTPStatus.FORBIDDEN, NO_SUCH_NAME)
        if path in self._sockets and method == "GET":
            return self._handshake(connection, request, hosts[0])
        if method not in METHODS:
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD\n", {"Allow": "GET, HEAD"})
        response = self._answer(connection, request, path, hosts[0])
        return without_body(response) if method == "HEAD" else response

    def _handshake(
        self, connection: ServerConnection, request: Request, host: str
    ) -> Response | None:
        headers = request.headers
        if headers.get("Upgrade", "").lower() != "websocket":
            wanted = {"Upgrade": "websocket"}
            return plain(HTTPStatus.UPGRADE_REQUIRED, "this is a WebSocket address\n", wanted)
        origins = headers.get_all("Origin")
        if not self._gate.knows_origin(origins, host):
            return self._refuse("origin", HTTPStatus.FORBIDDEN, NO_SUCH_PAGE)
        if refusal := self._check_key(connection, request):
            return refusal
        if self._context.draining.is_set():
            return self._refuse("draining", HTTPStatus.SERVICE_UNAVAILABLE, "shutting down")
        # A browser cannot read a status: it is let in to be told, see `_welcome`.
        if not origins and not self._slots.free_for(self.address_of(connection, request)):
            retry = {"Retry-After": "5"}
            what = "no room for another session; try again later"
            return self._refuse("overloaded", HTTPStatus.SERVICE_UNAVAILABLE, what, retry)
        return None

    def _check_key(self, connection: ServerConnection, request: Request) -> Response | None:
        if not self._gate.asks_for_key:
            return None
        headers = request.headers
        key = key_of(headers.get_all("Authorization"), _protocols(headers))
        if (name := self._gate.name_of(key)) is not None:  # never locked out by others' guesses
            log.info("let in with the key %r", name)
            return None
        address, now = self.address_of(connection, request), self._clock.now()
        if len(self._guesses) > MAX_ADDRESSES:  # many machines guess: forget those that rested
            rested = {a for a, b in self._guesses.items() if b.holds(GUESSES, now)}
            self._guesses = {a: b for a, b in self._guesses.items() if a not in rested}
        guesses = self._guesses.setdefault(address, Bucket(GUESSES_PER_S, GUESSES, now))
        if not guesses.take(1, now):
            retry = {"Retry-After": "10"}
            what = "too many wrong keys; wait a little"
            return self._refuse("guessing", HTTPStatus.TOO_MANY_REQUESTS, what, retry)
        scheme = {"WWW-Authenticate": "Bearer"}
        return self._refuse("key", HTTPStatus.UNAUTHORIZED, "a valid key is needed", scheme)

    def address_of(self, connection: ServerConnection, request: Request) -> str:
        """The person's network address, or as near as we know."""
        peer = str((connection.remote_address or ("unknown",))[0])
        if not self._told_of_proxy and came_through_one(request.headers):
            self._told_of_proxy = True
            log.warning(
                "a proxy at %s passes requests on: if it is yours, name it with --proxy, else all"
                " who come through it count as one",
                peer,
            )
        return self._proxies.person(peer, request.headers)

    def _check_metrics(self, connection: ServerConnection, request: Request) -> Response | None:
        """Figures are for this machine; for others with a key."""
        peer = str((connection.remote_address or ("unknown",))[0])
        if is_loopback(peer) and not came_through_one(request.headers):
            return None
        if not self._gate.asks_for_key and is_loopback(peer):
            what = "metrics are for this machine; serve with --api-key-file to read them elsewhere"
            return self._refuse("key", HTTPStatus.FORBIDDEN, what)
        return self._check_key(connection, request)

    def _answer(
        self, connection: ServerConnection, request: Request, path: str, host: str
    ) -> Response:
        match path:
            case "/healthz":
                return plain(HTTPStatus.OK, "ok\n")
            case "/readyz" if self.ready:
                return plain(HTTPStatus.OK, "ready\n")
            case "/readyz":
                return plain(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._unready}\n")
            case "/metrics":
                if refusal := self._check_metrics(connection, request):
                    return refusal
                context = self._context
                body = context.metrics.text(context.engine, ready=self.ready)
                return respond(HTTPStatus.OK, body, CONTENT_TYPE, {"Cache-Control": "no-store"})
            case _:
                known = request.headers.get("If-None-Match")
                return self._answers.page(path, host=host, known=known)

    @property
    def _unready(self) -> str:
        """Why a client should not come now; "" where it should."""
        if self._context.draining.is_set():
            return "shutting down"
        if not self.warm:
            return "models are warming up"
        if not self._context.engine.healthy:
            return "a model fails, or hangs"
        return "" if self._slots.free else "no free session"

    def _refuse(
        self,
        reason: RefusalReason,
        status: HTTPStatus,
        text: str,
        headers: dict[str, str] | None = None,
    ) -> Response:
        self._context.metrics.refuse(reason)
        log.info("refused: %s", reason)
        return plain(status, f"{text}\n", headers)


def path_of(request: Request) -> str:
    """The path without what follows a question mark."""
    return request.path.partition("?")[0]


def _protocols(headers: Headers) -> list[str]:
    return [
        name.strip()
        for value in headers.get_all("Sec-WebSocket-Protocol")
        for name in value.split(",")
    ]
