"""How much one client may ask for. Pure: time comes in, a decision comes out.

What breaks a limit is told so, as `Hangup`, and the connection ends with the code that says why.
"""

from __future__ import annotations

from collections.abc import Callable

from textpro_stream.errors import TextproError

DONE, GOING_AWAY, POLICY, TOO_BIG = 1000, 1001, 1008, 1009  # WebSocket closing codes
FAILED, OVERLOADED = 1011, 1013


class Hangup(TextproError):
    """The connection has to end.

    Raise it anywhere inside a route: the server says `code` and `message` in the route's own form
    of an error, unless `code` is empty, and closes.

    Args:
        code: of the error, e.g. "rate_limited"; "" says nothing before closing.
        message: one line; also the closing reason, cut to what fits there.
        closing: WebSocket closing code.
    """

    def __init__(self, code: str, message: str, closing: int) -> None:
        super().__init__(message, closing=closing)
        self.code = code
        self.message, self.closing = message, closing


class Bucket:
    """An allowance that fills up steadily and may be used at once.

    Args:
        rate: that comes in, per second.
        size: that it holds; full at the start.
        now: seconds of any clock.
    """

    def __init__(self, rate: float, size: float, now: float) -> None:
        self._rate, self._size = rate, size
        self._held, self._then = size, now

    def take(self, amount: float, now: float) -> bool:
        """Take some, if that much is there."""
        self._fill(now)
        if amount > self._held:
            return False
        self._held -= amount
        return True

    def holds(self, amount: float, now: float) -> bool:
        """That much is there."""
        self._fill(now)
        return amount <= self._held

    def _fill(self, now: float) -> None:
        self._held = min(self._size, self._held + self._rate * max(0.0, now - self._then))
        self._then = max(now, self._then)


class Errors:
    """A client that sends nothing but mistakes is no client."""

    def __init__(self, in_a_row: int) -> None:
        self._left = self._in_a_row = in_a_row

    def fine(self) -> None:
        """A message was understood."""
        self._left = self._in_a_row

    def mistake(self) -> None:
        """A message was not.

        Raises:
            Hangup: it was one too many.
        """
        self._left -= 1
        if self._left <= 0:
            raise Hangup("", f"{self._in_a_row} errors in a row", POLICY)


class Slots:
    """Who is in: sessions in all and of one address.

    Args:
        in_all: most of them.
        per_address: most from one network address; 0 = all of them.
        crowded: those who are in are served too late already; nobody is added then.
    """

    def __init__(
        self, in_all: int, per_address: int, crowded: Callable[[], bool] = lambda: False
    ) -> None:
        self._in_all, self._per_address = in_all, per_address or in_all
        self._crowded = crowded
        self._taken: dict[str, int] = {}

    @property
    def taken(self) -> int:
        """Sessions held."""
        return sum(self._taken.values())

    def free_for(self, address: str) -> bool:
        """Another session from there would be admitted."""
        return self.free and self._taken.get(address, 0) < self._per_address

    @property
    def free(self) -> bool:
        """Somebody would be admitted."""
        return self.taken < self._in_all and not (self.taken and self._crowded())

    def take(self, address: str) -> bool:
        """Admit a session, if there is room for it."""
        if not self.free_for(address):
            return False
        self._taken[address] = self._taken.get(address, 0) + 1
        return True

    def release(self, address: str) -> None:
        """A session that was admitted has ended."""
        self._taken[address] -= 1
        if not self._taken[address]:
            del self._taken[address]
