"""The responses of a session: which one is being made, and which turn of the conversation it is.

Turns of the conversation and responses of the protocol are not the same. A response is live from
`response.created` to `response.done`, and only one of the conversation's own at a time; it may be
over here while the conversation still stops it, or while its audio is still playing.
"""

from __future__ import annotations

from collections import deque

from textpro_stream.commands import Interrupt, Respond
from textpro_stream.contracts import ReplyOptions
from textpro_stream.events import (
    Failed,
    ReplyAudio,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ReplyText,
    ToolCalled,
)
from textpro_stream.server.fields import Json, Refused
from textpro_stream.server.realtime.outgoing import server_error
from textpro_stream.server.realtime.response import Response, ResponseStatus, StatusReason
from textpro_stream.server.realtime.session import tools_of
from textpro_stream.server.realtime.state import State

MAX_FAILURES = 16  # remembered, to say why a turn failed
TOOLLESS = "this model's chat template has no place for tools: it was not told of them"


class Replies:
    """All responses that are not over yet.

    Args:
        state: of the session.
        conversation_id: that responses of the conversation's own name.
    """

    def __init__(self, state: State, conversation_id: str) -> None:
        self._state, self._conversation_id = state, conversation_id
        self.active: Response | None = None  # of the conversation's own
        self.failures: dict[int, Failed] = {}  # by turn
        self._by_turn: dict[int, Response] = {}  # until the conversation is through with them
        self._due: deque[tuple[int, int]] = deque()  # turns answered next, and their tokens
        self._playing: int | None = None  # the turn whose reply is being heard
        self._n = 0

    @property
    def busy(self) -> bool:
        """A response of the conversation's own is being made, or comes next by itself."""
        return self.active is not None or bool(self._due)

    @property
    def heard(self) -> bool:
        """A reply is being heard."""
        begun = self.active is not None and self.active.begun
        return begun or self._playing is not None

    # What the client wants

    def ask(
        self, settings: Json, metadata: dict[str, str], options: ReplyOptions, *, own: bool = True
    ) -> None:
        """Have a reply made."""
        response, turn = self._new(settings, metadata, own=own), self._state.next_turn()
        self._bind(response, turn)
        self._state.send(response.created())
        self._state.tell(Respond(turn, options))

    def cancelled_early(self) -> None:
        """A response that was cancelled before it could be asked for."""
        response = self._new(self._state.session, {}, own=True)
        self._state.send(response.created())
        self._end(response, "cancelled", "client_cancelled")

    def cancel(self, response_id: str | None) -> None:
        """End a response now, whatever the conversation still says of it.

        Raises:
            Refused: no such response is being made.
        """
        live = [r for r in self._by_turn.values() if r.live]
        response = self.active
        if response_id is not None:
            response = next((r for r in live if r.id == response_id), None)
        if response is None:
            raise Refused("response_cancel_not_active", "no such response is being made")
        self._end(response, "cancelled", "client_cancelled")
        self._state.tell(Interrupt(turn=response.turn))
        self._state.drop(response.id)
        self._open_due()

    def not_made(self, turn: int, message: str) -> None:
        """The conversation does not make a reply that was asked for."""
        response = self._by_turn.pop(turn, None)
        if response is not None and response.live:
            self._end(response, "failed", error=server_error("llm", message))
            self._open_due()

    # What the conversation says

    def due(self, turn: int, n_tokens: int) -> None:
        """A turn is answered by itself, as soon as nothing else is."""
        if turn not in self._by_turn:
            self._due.append((turn, n_tokens))
            self._open_due()

    def say(self, event: ReplyStarted | ReplyText | ReplyAudio | ToolCalled) -> None:
        """Text, audio or a call of a reply: the deltas of its response."""
        response = self._of(event.turn)
        first, response.begun = not response.begun, True
        if not response.live:
            if first:  # it was cancelled before there was anything to stop
                self._state.tell(Interrupt(turn=event.turn))
            return
        match event:
            case ReplyText(text=text):
                self._state.send(*response.text(text))
            case ReplyAudio(chunk=chunk) if response.speaks:
                self._state.spoke, self._playing = True, event.turn
                self._state.send(*response.audio(chunk))
            case ToolCalled(call=call):
                self._state.send(*response.call(call))
            case _:
                pass

    def given(self, event: ReplyGiven) -> None:
        """All of a reply has been given out."""
        response = self._of(event.turn)
        response.begun = True
        if response.live:
            if event.reason == "length":
                self._end(response, "incomplete", "max_output_tokens", marks=event.marks)
            else:
                self._end(response, "completed", marks=event.marks)
            self._open_due()

    def ended(self, event: ReplyEnded) -> None:
        """A reply is over, and is not heard any more."""
        response = self._by_turn.get(event.turn)
        if response is None and event.reason == "failed":  # before anything of it came
            response = self._of(event.turn)
        elif response is None:  # stopped while it waited for another one
            self._due = deque(due for due in self._due if due[0] != event.turn)
        if self._playing == event.turn:
            self._playing = None
        if response is not None and response.live:
            response.begun = True
            match event.reason:
                case "barge_in" | "cancelled":
                    barged = event.reason == "barge_in"
                    why: StatusReason = "turn_detected" if barged else "client_cancelled"
                    self._end(response, "cancelled", why)
                    self._state.drop(response.id)
                case "failed":
                    failure = self.failures.get(event.turn)
                    message = failure.message if failure else "the language model failed"
                    code = failure.code if failure else "llm"
                    self._end(response, "failed", error=server_error(code, message))
                case _:
                    self._end(response, "completed")
        self._open_due()

    def forget(self, turn: int) -> None:
        """`TurnLatency`, the last event of a turn: its response is over."""
        self._by_turn.pop(turn, None)
        self.failures.pop(turn, None)

    def fail(self, failure: Failed) -> None:
        """Something of a turn went wrong."""
        self.failures[failure.turn] = failure
        if len(self.failures) > MAX_FAILURES:  # of turns that nothing more was said of
            del self.failures[next(iter(self.failures))]
        if failure.code == "voice" and (response := self._by_turn.get(failure.turn)):
            response.warning = failure.message

    def fail_all(self, message: str) -> None:
        """The conversation has ended."""
        for response in self._by_turn.values():
            if response.live:
                self._end(response, "failed", error=server_error("stage", message))

    # Which is which

    def _of(self, turn: int) -> Response:
        """The response of a turn; what nobody here asked for (an announcement) gets one."""
        while turn not in self._by_turn and any(due == turn for due, _ in self._due):
            if self.active is not None and self.active.begun:  # it has ended without saying so
                self._end(self.active, "completed")
            elif self.active is not None:  # asked for, but somebody spoke and is answered first
                self._end(self.active, "cancelled", "turn_detected")
            self._open_due()
        if turn in self._by_turn:
            return self._by_turn[turn]
        response = self._new(self._state.session, {}, own=self.active is None)
        self._state.send(response.created())
        self._bind(response, turn)
        return response

    def _open_due(self) -> None:
        if self._due and self.active is None:
            turn, n_tokens = self._due.popleft()
            response = self._new(self._state.session, {}, own=True)
            response.usage.heard_tokens = n_tokens
            self._bind(response, turn)
            self._state.send(response.created())

    def _bind(self, response: Response, turn: int) -> None:
        response.turn = turn
        self._by_turn[turn] = response

    def _new(self, settings: Json, metadata: dict[str, str], *, own: bool) -> Response:
        self._n += 1
        self._state.idle_from = None
        items = self._state.items if own else None
        conversation_id = self._conversation_id if own else None
        name_item = self._state.items.named
        name = name_item(f"{self._n:06d}").replace("item", "resp", 1)
        response = Response(name, settings, items, conversation_id, metadata, name_item)
        if not self._state.offer.knows_tools and tools_of(settings):
            response.warning = TOOLLESS
        if own:
            self.active = response
        return response

    def _end(
        self,
        response: Response,
        status: ResponseStatus,
        reason: StatusReason | None = None,
        *,
        error: Json | None = None,
        marks: dict[str, float] | None = None,
    ) -> None:
        self._state.send(*response.end(status, reason, error, marks))
        if self.active is response:
            self.active = None
