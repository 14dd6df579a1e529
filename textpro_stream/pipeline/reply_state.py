"""The life of a conversation's replies, one after another, as a pure state machine.

             begin              release              sound
    idle ───────────> drafting ─────────> released ─────────> playing
     ^                  │  │                 │                   │
     └──────────────────┘  └─────────────────┴───────┬───────────┘
          drop, retry                          end, interrupt
                                                     v
                                                   ended ──begin──> drafting (the next one)

Drafting is speculative: the turn may go on, and then nobody has seen the draft. Released, a reply
is given out as it comes; playing, its sound goes out, and with somebody listening it lasts until
they have heard it. A reply may be asked for long before it is begun; an interruption counts for it
from then on. Moments, text and audio are others' affair: no clock, no task, no I/O in here.
"""

from __future__ import annotations

from typing import Literal

from textpro_stream.commands import InterruptReason
from textpro_stream.events import ReplyEndReason

ReplyState = Literal["idle", "drafting", "released", "playing", "ended"]


class ReplyMachine:
    """Which reply is where in its life.

    Attributes:
        state: of the present reply.
        turn: that it answers; 0 before the first.
        reason: why it ended; None while it has not.
    """

    def __init__(self) -> None:
        self.state: ReplyState = "idle"
        self.turn = 0
        self.reason: ReplyEndReason | None = None
        self._asked: dict[int, InterruptReason | None] = {}  # turns to be answered, or why not to
        self._pressing: set[int] = set()  # of those, the ones that wait for nobody to hear out

    @property
    def held(self) -> bool:
        """A draft waits for the endpoint."""
        return self.state == "drafting"

    @property
    def replying(self) -> bool:
        """A reply is being given, or heard."""
        return self.state in ("released", "playing")

    @property
    def interrupted(self) -> bool:
        """The present reply ended before it was complete."""
        return self.state == "ended" and self.reason in ("barge_in", "cancelled")

    @property
    def pressing(self) -> bool:
        """Somebody asks for another reply and does not want to hear this one out."""
        return bool(self._pressing)

    def ask(self, turn: int, *, pressing: bool = False) -> None:
        """A reply to this turn will be begun.

        Args:
            turn: that it answers.
            pressing: the one before it need not be heard out.
        """
        self._asked.setdefault(turn, None)
        if pressing:
            self._pressing.add(turn)

    def start(self, turn: int) -> None:
        """What was asked for has its turn now."""
        self._pressing.discard(turn)

    def forget(self, turn: int) -> None:
        """Nothing will be begun for this turn any more."""
        self._asked.pop(turn, None)
        self._pressing.discard(turn)

    def begin(self, turn: int) -> None:
        """Draft a reply to this turn."""
        assert self.state in ("idle", "ended"), f"a reply is {self.state}; it must end first"
        self.state, self.turn, self.reason = "drafting", turn, None

    def drop(self) -> None:
        """The draft was in vain; nobody saw it."""
        if self.state == "drafting":
            self.state = "idle"

    def retry(self) -> None:
        """It failed before anything of it was seen, and will be drafted again."""
        if self.state != "ended":
            self.state = "idle"
            self.ask(self.turn)

    def release(self) -> bool:
        """The endpoint. False if somebody interrupted the reply before it began: it has ended."""
        assert self.state == "drafting", f"a reply is {self.state}, not a draft"
        why = self._asked.pop(self.turn, None)
        self._pressing.discard(self.turn)
        if why is not None:
            self.state, self.reason = "ended", why
            return False
        self.state = "released"
        return True

    def sound(self) -> None:
        """Its first audio goes out."""
        if self.state == "released":
            self.state = "playing"

    def interrupt(self, reason: InterruptReason, turn: int | None = None) -> bool:
        """End the reply being given, and those asked for, or the one to `turn`.

        Returns:
            Whether the present reply has ended by this.
        """
        for asked in self._asked:
            if turn in (None, asked):
                self._asked[asked] = reason
        if self.replying and turn in (None, self.turn):
            self.state, self.reason = "ended", reason
            return True
        return False

    def end(self, reason: ReplyEndReason) -> None:
        """It is over by itself, or it failed; an interruption that came first stands."""
        if self.state != "ended":
            self.state, self.reason = "ended", reason
        self.forget(self.turn)
