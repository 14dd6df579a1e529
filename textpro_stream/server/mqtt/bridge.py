"""The bridge: what conversations do becomes topics, and commands become deeds.

It never stands in the way of a voice: the hub's callback appends to a bounded backlog and returns,
everything else happens in the bridge's own task, and whatever a broker does ends in another try
later. Topics and payloads are described in docs/mqtt.md.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import TYPE_CHECKING

from textpro_stream.clock import MonotonicClock
from textpro_stream.errors import TextproError, unwrap
from textpro_stream.events import Event, Failed, ReplyEnded, TurnEnded, TurnLatency, TurnTone
from textpro_stream.ports import Clock, SessionHub
from textpro_stream.server.mqtt.backlog import Backlog, Message
from textpro_stream.server.mqtt.broker import PASSWORD, Broker
from textpro_stream.server.mqtt.commands import CODE, COMMANDS, Commands
from textpro_stream.server.mqtt.discovery import (
    BIRTH,
    birth_topics,
    discovery,
    discovery_topic,
)
from textpro_stream.server.mqtt.topics import OFF, OFFLINE, ON, ONLINE, Topics
from textpro_stream.wire import to_json

if TYPE_CHECKING:
    import aiomqtt

LOG = logging.getLogger(__name__)
LIBRARY = logging.getLogger(f"{__name__}.aiomqtt")

RETRY_FIRST_S, RETRY_MAX_S = 1.0, 60.0  # doubling; each is cut by up to half, by chance
STEADY_S = 10.0  # a connection that lasted this long was a good one: begin with short waits again
GLANCE_S = 1.0  # how late a change that came without an event may be seen
ANSWER_S = 10.0  # for the broker's answers
RECALL_S = 0.5  # for what the broker keeps of us, once in a process's life
FAREWELL_S = 2.0  # for saying that we leave
KEEPALIVE_S = 30  # a broker declares us lost after one and a half of them
WAITING_MAX = 64  # commands; more are discarded
COMPLAINT_S = 10.0  # between two lines about bad commands


class Bridge:
    """A server's conversations on a broker.

    Args:
        hub: the conversations.
        broker: where, as whom, under which topics.
        text: publish transcripts and replies too; a house's broker has many readers.
        clock: for tests.
        random: for tests; spreads the retries of many.
    """

    def __init__(
        self,
        hub: SessionHub,
        broker: Broker,
        *,
        text: bool = False,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self._hub, self._broker, self._text = hub, broker, text
        self._clock = clock or MonotonicClock()
        self._random = random or Random()
        self._topics, self._commands = Topics(broker.base), Commands(hub)
        self._identifier = f"textpro-{secrets.token_hex(6)}"
        self._task: asyncio.Task[object] | None = None
        self._trouble, self._refused = "", False  # said already
        self._recalled = False  # what the broker kept of the process before us
        self._complained_at = float("-inf")
        self.backlog = Backlog()
        self.connected = False

    async def run(self) -> None:
        """Publish and obey until `close`, or until cancelled; says `offline` when leaving."""
        self._task = asyncio.current_task()
        self.backlog.keep(self._topics.status, ONLINE)
        about = discovery(self._broker.node, self._topics, text=self._text)
        here, prefix = self._broker, self._broker.discovery
        self.backlog.keep(discovery_topic(here.node, prefix), json.dumps(about))
        if here.former_node != here.node:
            self.backlog.keep(discovery_topic(here.former_node, prefix), "")
        unwatch = self._hub.watch(self._note)
        try:
            wait = RETRY_FIRST_S
            while True:
                began = self._clock.now()
                try:
                    await self._visit()
                except Exception as error:  # whatever it is, voices must not hear of it
                    self._explain(unwrap(error))
                if self._clock.now() - began > STEADY_S:
                    wait = RETRY_FIRST_S
                await self._clock.sleep_until(
                    self._clock.now() + wait * self._random.uniform(0.5, 1.0)
                )
                wait = min(2 * wait, RETRY_MAX_S)
        finally:
            unwatch()

    async def close(self) -> None:
        """Say `offline`, if there is somebody to say it to, and end `run`."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _visit(self) -> None:
        """One connection, as long as it lasts."""
        client = self._client()
        try:
            with _heedful():
                await client.__aenter__()
        except BaseException:
            # A broker that accepts and then says nothing: aiomqtt has no way to let go of it, and
            # its socket would stay with us.
            client._client.disconnect()
            raise
        try:
            await self._stay(client)
        finally:
            with suppress(Exception):  # a broker that hangs must not hold us up
                async with asyncio.timeout(FAREWELL_S):
                    await client.__aexit__(None, None, None)

    async def _stay(self, client: aiomqtt.Client) -> None:
        await self._subscribe(client)
        if not self._recalled:
            await self._recall(client)
        self.connected = True
        if self._trouble:
            LOG.warning("mqtt: connected to %s", self._broker)
            self._trouble = ""
        self.backlog.resend()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._speak(client), name="mqtt publishes")
                tasks.create_task(self._obey(client), name="mqtt obeys")
        except asyncio.CancelledError:
            with suppress(Exception):  # the broker's will for us says the same
                async with asyncio.timeout(FAREWELL_S):
                    await client.publish(self._topics.status, OFFLINE, qos=1, retain=True)
            raise
        finally:
            self.connected = False

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        births = birth_topics(self._broker.discovery)
        topics = [*map(self._topics.command, COMMANDS), self._topics.status, *births]
        with _heedful():
            granted = await client.subscribe([(topic, 1) for topic in topics])
        refused = [
            topic
            for topic, code in zip(topics, granted, strict=True)
            if getattr(code, "is_failure", False)
        ]
        if refused and not self._refused:
            self._refused = True
            LOG.warning("mqtt: the broker does not let us read %s", ", ".join(refused))

    def _client(self) -> aiomqtt.Client:
        import aiomqtt

        broker = self._broker
        # What it says beside its exceptions, we say better.
        LIBRARY.setLevel(logging.DEBUG if LOG.isEnabledFor(logging.DEBUG) else logging.CRITICAL)
        return aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            identifier=self._identifier,
            will=aiomqtt.Will(self._topics.status, OFFLINE, qos=1, retain=True),
            timeout=ANSWER_S,
            keepalive=KEEPALIVE_S,
            max_queued_incoming_messages=WAITING_MAX,
            tls_context=broker.tls,
            logger=LIBRARY,
        )

    # Out

    def _note(self, session: str, event: Event) -> None:
        """The hub's callback: keep what is of interest, and be gone."""
        topics, push = self._topics, self.backlog.push
        match event:
            case TurnEnded(turn=turn, transcript=transcript, reason=reason):
                self._tell("turn", session=session, turn=turn, reason=reason, replies=event.replies)
                if self._text and transcript:
                    push(topics.transcript, transcript)
            case ReplyEnded(turn=turn, text=text, reason=reason):
                kind = "barge_in" if reason == "barge_in" else "reply"
                self._tell(kind, session=session, turn=turn, reason=reason)
                if self._text and text:
                    push(topics.reply, text)
            case Failed(turn=turn, code=code, message=message):
                self._tell("error", session=session, turn=turn, code=code, message=message)
            case TurnLatency():
                push(topics.latency, _alone(session, event))
            case TurnTone() if self._text:
                push(topics.tone, _alone(session, event))
        self.backlog.nudge()

    def _tell(self, kind: str, **facts: object) -> None:
        self.backlog.push(self._topics.event, json.dumps({"event_type": kind, **facts}))

    async def _speak(self, client: aiomqtt.Client) -> None:
        while True:
            self._look()
            while message := self.backlog.take():
                await self._publish(client, message)
            with suppress(TimeoutError):
                async with asyncio.timeout(GLANCE_S):
                    await self.backlog.wait()

    def _look(self) -> None:
        """Take down how things are; what was said before about the same is replaced."""
        hub, topics, keep = self._hub, self._topics, self.backlog.keep
        keep(topics.state, hub.state)
        keep(topics.sessions, str(len(hub)))
        keep(topics.listen, ON if hub.listening else OFF)
        keep(topics.volume, str(round(100 * hub.gain)))

    async def _publish(self, client: aiomqtt.Client, message: Message) -> None:
        try:
            with _heedful():
                await client.publish(
                    message.topic,
                    message.payload,
                    qos=1 if message.retain else 0,
                    retain=message.retain,
                )
        except BaseException:
            self.backlog.give_back(message)
            raise

    # In

    async def _recall(self, client: aiomqtt.Client) -> None:
        """Take over what was chosen before this process began: that nobody shall be heard, say.

        The broker sends what it keeps as soon as it is asked, so a moment is enough.
        """
        wanted = {self._topics.listen, self._topics.volume}
        with _heedful():
            await client.subscribe([(topic, 1) for topic in sorted(wanted)])
        left = set(wanted)
        with suppress(TimeoutError):
            async with asyncio.timeout(RECALL_S):
                async for message in client.messages:
                    topic = message.topic.value
                    if topic not in wanted:
                        await self._heed(message)
                    elif message.retain:
                        name = topic.removeprefix(f"{self._topics.base}/")
                        await self._commands.obey(name, _bytes(message))
                        left.discard(topic)
                        if not left:
                            break
        with _heedful():
            await client.unsubscribe(sorted(wanted))
        self._recalled = True

    async def _obey(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            await self._heed(message)

    async def _heed(self, message: aiomqtt.Message) -> None:
        payload, topic = _bytes(message), message.topic.value
        if topic in birth_topics(self._broker.discovery):
            if payload == BIRTH.encode():
                self.backlog.resend()
        elif topic == self._topics.status:
            # The will of a connection of ours that the broker gave up only now, or that of a
            # server of the same name before us.
            if payload == OFFLINE.encode():
                self.backlog.resend(topic)
        elif topic in (self._topics.listen, self._topics.volume):
            pass  # what we say ourselves, just before we stop listening to it
        elif message.retain:
            self._complain("a retained command is ignored: it would be obeyed at every start")
        else:
            complaint = await self._commands.obey(self._topics.command_of(topic), payload)
            if complaint:
                self._complain(complaint)
            self.backlog.nudge()

    def _complain(self, what: str) -> None:
        """About a command: to whoever sent it, and now and then in the log."""
        self._tell("error", code=CODE, message=what)
        if self._clock.now() - self._complained_at > COMPLAINT_S:
            self._complained_at = self._clock.now()
            LOG.warning("mqtt: %s", what)

    # Trouble

    def _explain(self, error: BaseException) -> None:
        """Say once what is wrong with the connection."""
        what = why(error, self._broker)
        if what != self._trouble:
            self._trouble = what
            LOG.warning("mqtt: %s: %s; trying again, now and then", self._broker, what)


def _bytes(message: aiomqtt.Message) -> bytes:
    return message.payload if isinstance(message.payload, bytes) else b""


def why(error: BaseException, broker: Broker) -> str:
    """What went wrong and what to do about it, for a person."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "ot authori" in text or "ser name or password" in text:
        return f"the broker refuses user {broker.username or '(none)'}; check {PASSWORD}"
    if text.startswith("Disconnected"):
        return "the connection was lost"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = text.rpartition(": ")[2].partition(" (_ssl")[0]
        return f"its certificate is not trusted: {reason}; see --mqtt-ca"
    return text


@contextmanager
def _heedful() -> Iterator[None]:
    """Keeps a cancellation: before Python 3.12, `wait_for` loses one that comes with the answer."""
    before = _cancellations()
    yield
    if _cancellations() > before:
        raise asyncio.CancelledError


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


async def forget(broker: Broker) -> None:
    """Remove everything that the broker keeps of us, and so the device from Home Assistant.

    Raises:
        TextproError: the broker cannot be reached.
    """
    import aiomqtt

    try:
        async with aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            timeout=ANSWER_S,
            tls_context=broker.tls,
        ) as client:
            nodes = {broker.node, broker.former_node}
            devices = [discovery_topic(node, broker.discovery) for node in nodes]
            for topic in (*devices, *Topics(broker.base).retained):
                await client.publish(topic, b"", qos=1, retain=True)
    except aiomqtt.MqttError as error:
        raise TextproError(f"mqtt: {broker}: {why(error, broker)}") from None


def _alone(session: str, event: Event) -> str:
    """An event's own fields, for a topic that says what they are."""
    fields = to_json(event, source=session, wall_s=0.0)
    del fields["type"], fields["wall_s"], fields["source"]
    return json.dumps({"session": session, **fields})
