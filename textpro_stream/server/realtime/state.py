"""What the parts of a session's core share: the session, its items, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass, field

from textpro_stream.server.realtime import session as sessions
from textpro_stream.server.realtime.incoming import Json
from textpro_stream.server.realtime.items import Items
from textpro_stream.server.realtime.orders import Configure, Order
from textpro_stream.server.realtime.rules import Offer


@dataclass(slots=True)
class Output:
    """What is to be done now."""

    events: list[Json] = field(default_factory=list)  # for the client
    orders: list[Order] = field(default_factory=list)  # for the conversation
    refused: bool = False  # the client event was a mistake
    over: str | None = None  # the conversation has ended, for this reason


class State:
    """One session.

    Args:
        offer: what the server has.
        session: the session object as it begins.
    """

    def __init__(self, offer: Offer, session: Json) -> None:
        self.offer, self.session = offer, session
        self.items = Items()
        self.out = Output()
        self.position = 0.0  # 16 kHz samples appended, the decoder's delay included
        self.boundary = 0.0  # position of the last commit, clear or end of a turn
        self.idle_from: float | None = None  # position from which on nobody has spoken
        self.spoke = False  # audio was sent
        self._settings: Json = {}  # that the conversation knows of
        self._n_events = self._n_items = 0

    @property
    def input_kind(self) -> str:
        """Format of the audio that comes in."""
        kind: str = self.session["audio"]["input"]["format"]["type"]
        return kind

    @property
    def detection(self) -> Json | None:
        """How turns end; None: the client says so."""
        return sessions.turn_detection(self.session)

    @property
    def transcribes(self) -> bool:
        """The client wants to read what was said."""
        return self.session["audio"]["input"]["transcription"] is not None

    @property
    def replies(self) -> bool:
        """There is somebody to talk to."""
        return bool(self.session["type"] == "realtime")

    @property
    def extended(self) -> bool:
        """The client takes our own events as well."""
        return bool(self.session["textpro"]["events"])

    def send(self, *events: Json) -> None:
        """Tell the client."""
        for event in events:
            self._n_events += 1
            self.out.events.append({"event_id": f"event_{self._n_events:08d}", **event})

    def order(self, order: Order) -> None:
        """Tell the conversation."""
        self.out.orders.append(order)

    def configure(self) -> None:
        """Tell the conversation what is not as it knows it."""
        settings = sessions.conversation_settings(self.session, self.offer)
        known = self._settings
        changes = {k: v for k, v in settings.items() if k not in known or known[k] != v}
        self._settings = settings
        if changes:
            self.order(Configure(changes))

    def new_item_number(self) -> int:
        """Counts items that the client did not name."""
        self._n_items += 1
        return self._n_items

    def take(self) -> Output:
        """What is to be done, once."""
        out, self.out = self.out, Output()
        return out
