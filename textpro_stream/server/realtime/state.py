"""What the parts of a session's core share: the session, its items, and what is to be done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from textpro_stream.commands import Command, Configure
from textpro_stream.contracts import AudioChunk
from textpro_stream.server.fields import Json
from textpro_stream.server.realtime import session as sessions
from textpro_stream.server.realtime.codec import Samples
from textpro_stream.server.realtime.items import Items
from textpro_stream.server.realtime.rules import Offer

ID_CHARACTERS = 12  # of the session's id, in those of its items: 48 bits


@dataclass(slots=True)
class Output:
    """What is to be done now."""

    events: list[Json] = field(default_factory=list)  # for the client
    told: list[AudioChunk | Command] = field(default_factory=list)  # for the conversation
    dropped: list[str] = field(default_factory=list)  # responses whose unsent audio is void
    refused: bool = False  # the client event was a mistake
    over: str | None = None  # the conversation has ended, for this reason


class State:
    """One session.

    Args:
        offer: what the server has.
        session: the session object as it begins.
        next_turn: the conversation's number of a turn that a command will bring.
    """

    def __init__(self, offer: Offer, session: Json, next_turn: Callable[[], int]) -> None:
        self.offer, self.session, self.next_turn = offer, session, next_turn
        self.items = Items(str(session["id"]).removeprefix("sess_")[:ID_CHARACTERS])
        self.out = Output()
        self.position = 0.0  # 16 kHz samples appended, the decoder's delay included
        self.boundary = 0.0  # position of the last commit, clear or end of a turn
        self.idle_from: float | None = None  # position from which on nobody has spoken
        self.spoke = False  # audio was sent
        self._settings = Configure()  # that the conversation knows of
        self._heard = 0  # samples that the conversation was given
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

    def tell(self, command: Command) -> None:
        """Tell the conversation."""
        self.out.told.append(command)

    def hear(self, samples: Samples) -> None:
        """Have the conversation hear audio, (n,) at 16 kHz."""
        if len(samples):
            chunk = AudioChunk(samples, self._heard)
            self._heard = chunk.end
            self.out.told.append(chunk)

    def drop(self, response_id: str) -> None:
        """Take back audio of a response that has not been written yet."""
        self.out.dropped.append(response_id)

    def configure(self) -> None:
        """Tell the conversation what is not as it knows it."""
        settings, known = sessions.configuration(self.session, self.offer), self._settings
        names = [field.name for field in fields(Configure)]
        changes = {n: v for n in names if (v := getattr(settings, n)) != getattr(known, n)}
        self._settings = settings
        if changes:
            self.tell(Configure(**changes))

    def new_item_number(self) -> int:
        """Counts items that the client did not name."""
        self._n_items += 1
        return self._n_items

    def take(self) -> Output:
        """What is to be done, once."""
        out, self.out = self.out, Output()
        return out
