"""What a route is given: one client that was let in, and everything it may use for it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from textpro_stream.clock import MonotonicClock
from textpro_stream.commands import Rest
from textpro_stream.contracts import AudioChunk, SpokenChunk, seconds
from textpro_stream.errors import StageError
from textpro_stream.events import Event
from textpro_stream.ports import Clock, Talk
from textpro_stream.server.context import ServerContext
from textpro_stream.server.limits import DONE, POLICY, TOO_BIG, Bucket, Errors, Hangup
from textpro_stream.server.sender import Sender

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection


EVENT_BURST_S = 4.0  # of events at any speed
# A frame of less than 5 ms costs us more than its audio is worth: it counts as an event.
SMALL_FRAME = 160  # bytes


class SessionContext:
    """One session's way in. The server makes it, the route uses it.

    A route reads with `messages`, writes with `sender` and never touches the socket otherwise.
    When the route returns, the server writes what still waits and closes with 1000. `Hangup`,
    raised anywhere in it, ends the session with an error and a closing code; any other exception
    ends it with 1011. However it ends, the server's own tasks for it end with it.

    Args:
        socket: the client.
        context: what sessions share.
        route: its name, for metrics.
        clock: for tests.

    Attributes:
        session_id: unique, unguessable.
        sender: the only writer of this socket. The server runs it.
        errors: count mistakes here (`mistake`, `fine`); too many in a row hang up.
    """

    def __init__(
        self,
        socket: ServerConnection,
        context: ServerContext,
        route: str,
        *,
        clock: Clock | None = None,
    ) -> None:
        options = context.options
        self.session_id = f"sess_{secrets.token_hex(12)}"
        self.route = route
        self.engine, self.options = context.engine, options
        self.hub, self.metrics, self.draining = context.hub, context.metrics, context.draining
        self.open_conversation = context.open_conversation
        self.clock: Clock = clock or MonotonicClock()
        self.sender = Sender(socket, max_bytes=options.outgoing_bytes, max_s=options.outgoing_s)
        self.errors = Errors(options.errors_in_a_row)
        self._socket = socket
        self._began = self._touched = now = self.clock.now()
        self._audio = Bucket(options.audio_speed, options.audio_burst_s, now)
        per_s = options.events_per_s
        self._events = Bucket(per_s, EVENT_BURST_S * per_s, now)
        self._quiet_from = now  # nothing has been said since
        self._hangup: asyncio.Future[Hangup] = asyncio.get_running_loop().create_future()

    @property
    def wall_s(self) -> float:
        """Seconds since the session began: the clock of its events."""
        return self.clock.now() - self._began

    async def messages(
        self,
        is_audio: Callable[[str | bytes], bool] | None = None,
        audio_bytes: int | None = None,
    ) -> AsyncIterator[str | bytes]:
        """What the client sends, until it closes.

        Args:
            is_audio: says which messages are limited by the audio in them (`admit_audio`), not by
                their number; a frame of any length, if not given.
            audio_bytes: that such a message may have; as any other, if not given.

        Raises:
            ConnectionClosedError: it went without saying so.
            Hangup: it sends too many messages, or one that is too long.
        """
        async for message in self._socket:
            now = self._touched = self.clock.now()
            audio = is_audio(message) if is_audio else isinstance(message, bytes)
            longest = audio_bytes if audio and audio_bytes else self.options.message_bytes
            if len(message) > longest:
                raise Hangup("message_too_big", f"a message has at most {longest} bytes", TOO_BIG)
            if (not audio or len(message) < SMALL_FRAME) and not self._events.take(1, now):
                raise Hangup("rate_limited", "too many messages in a short time", POLICY)
            yield message

    def admit_audio(self, duration_s: float, advice: str) -> None:
        """Live audio came in.

        Args:
            duration_s: of it.
            advice: how this route takes a recording.

        Raises:
            Hangup: far more of it than time has passed.
        """
        if not self._audio.take(duration_s, self.clock.now()):
            raise Hangup(
                "rate_limited",
                f"live audio came faster than {self.options.audio_speed:g} times real time;"
                f" pace it, or {advice}",
                POLICY,
            )

    def filter_input(self, chunk: AudioChunk) -> AudioChunk:
        """The audio as the conversation may hear it: silence while listening is off."""
        self.metrics.audio_in.labels(self.route).inc(seconds(len(chunk.samples)))
        return chunk if self.hub.listening else replace(chunk, samples=chunk.samples * 0)

    def filter_output(self, chunk: SpokenChunk) -> SpokenChunk:
        """Reply audio at the present volume."""
        gain = self.hub.gain
        return chunk if gain == 1.0 else replace(chunk, samples=chunk.samples * gain)

    def publish(self, event: Event) -> None:
        """The client is being told this: for the hub's watchers and the metrics. Never waits."""
        self._quiet_from = self.clock.now()
        self.metrics.observe(event)
        self.hub.publish(self.session_id, event)

    @contextmanager
    def joined(self, talk: Talk) -> Iterator[None]:
        """The conversation is one of the hub's for as long as the block lasts, and may rest."""
        self.metrics.talks.add(talk)
        resting = asyncio.create_task(self._rest(talk), name="rest")
        try:
            with self.hub.session(self.session_id, talk):
                yield
        finally:
            resting.cancel()

    async def _rest(self, talk: Talk) -> None:
        """Have the talk give its cache back whenever nothing was said for a while."""
        rested = -1.0
        with suppress(StageError):  # it has ended
            while True:
                quiet_s = self.clock.now() - self._quiet_from
                if quiet_s < self.options.rest_s:
                    await asyncio.sleep(self.options.rest_s - quiet_s)
                    continue
                if rested != self._quiet_from and not self.hub.replying(self.session_id):
                    rested = self._quiet_from
                    await talk.push(Rest())
                await asyncio.sleep(self.options.rest_s)

    def hang_up(self, hangup: Hangup) -> None:
        """End the session from outside the route."""
        if not self._hangup.done():
            self._hangup.set_result(hangup)

    async def watch(self) -> None:
        """End the session when it was idle or alive for too long. The server runs it.

        Raises:
            Hangup: always, sooner or later.
        """
        options = self.options
        while True:
            ends = self._began + options.session_s
            idles = self._touched + options.idle_s
            left = min(ends, idles) - self.clock.now()
            if left <= 0:
                why = "was open for" if ends <= idles else "was idle for"
                limit = options.session_s if ends <= idles else options.idle_s
                raise Hangup("session_expired", f"the session {why} {limit:g} s", DONE)
            done, _ = await asyncio.wait([self._hangup], timeout=left)
            if done:
                raise self._hangup.result()


@dataclass(frozen=True, slots=True)
class Route:
    """A WebSocket address."""

    name: str
    path: str
    protocol: str  # the subprotocol that browsers offer
    serve: Callable[[ServerConnection, SessionContext], Awaitable[None]]
    error: Callable[[str, str], str]  # code, message -> the form of an error there
