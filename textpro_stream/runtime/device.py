"""One worker thread per device: torch runs here, the event loop only moves values.

Steps are values, short (an audio block, a prefill, one token), and stand in lanes by what they are.
Each has a deadline, the moment at which it was asked for plus what its lane can wait, and the
earliest goes first (Liu and Layland, 1973). So words come before the next token, and yet nothing
starves: a step waits at most for its slack and for the steps that were asked for before its
deadline. A conversation has at most two steps at a time, one of its listener and one of its
responder, so with n conversations those are fewer than 2 n, and conversations take turns by
themselves. Steps of one kind that wait together run as one batch, if their kind says so. A step
that never ends cannot be ended from outside; who waits for it or after it is told so instead of
waiting for ever. It knows nothing of what the steps do.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from textpro_stream.clock import MonotonicClock
from textpro_stream.errors import StageError
from textpro_stream.ports import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")


class Lane(IntEnum):
    """What a step is for. Words before memory before the next token."""

    HEAR = 0
    PREFILL = 1
    DECODE = 2


class Step(ABC, Generic[T]):
    """What a device is asked to do. Kinds of steps are frozen dataclasses.

    Attributes:
        lane: where it waits, and the stream that it runs on where the device has some.
        most: steps of this kind that may run as one batch.
    """

    lane: ClassVar[Lane]
    most: ClassVar[int] = 1

    @abstractmethod
    def run(self) -> T:
        """Do it, in the device's thread."""

    @classmethod
    def run_together(cls, steps: Sequence[Self]) -> list[T | Exception]:
        """Do several, of different conversations, as one batch.

        Returns:
            What came of each, in order; a step that failed costs nobody else anything.
        """
        return [outcome(step) for step in steps]


def outcome(step: Step[Any]) -> Any:
    """What a step gives, or what it raises."""
    try:
        return step.run()
    except Exception as error:
        return error


# Seconds that a lane can wait. A word read 20 ms late costs nobody anything, since the
# endpoint waits for hundreds; a token 60 ms late is still faster than speech. More slack than one
# conversation's whole block of hearing (some 50 ms) would not change who goes first.
SLACK_S = {Lane.HEAR: 0.0, Lane.PREFILL: 0.02, Lane.DECODE: 0.06}

# A step that takes longer hangs. The longest that does not is a full context read anew: 2 s with
# the default model, some 20 s with one ten times its size.
HANGS_S = 60.0
IDLE_S = 10.0  # longer than the pauses between somebody's visits, so that nobody meets the tidying


class _Entry(NamedTuple):
    """A step that waits; its first two fields order it."""

    deadline: float
    age: int  # unique
    asked: float  # when
    future: Future[Any]
    step: Step[Any]
    kept: bool  # whatever hangs before it


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a device thread is."""

    waiting: int  # steps, now
    worst_wait_s: float  # of the steps that began since this was last asked


class DeviceThread:
    """Runs steps one after another, the earliest deadline first, then by age.

    Args:
        name: of the thread, as it appears in a debugger.
        around: entered once in the thread, around its whole life (torch's inference mode).
        stream: entered around each step, given its lane (CUDA streams).
        clock: for the deadlines.
        idle: called in the thread, once, whenever nothing has been asked of it for a while.
        idle_s: how long that is.
        hangs_s: a step that takes longer is taken to hang.
    """

    def __init__(
        self,
        name: str,
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
        clock: Clock | None = None,
        *,
        stream: Callable[[Lane], AbstractContextManager[object]] = lambda _: nullcontext(),
        idle: Callable[[], object] = lambda: None,
        idle_s: float = IDLE_S,
        hangs_s: float = HANGS_S,
    ) -> None:
        self._name, self._around, self._stream = name, around, stream
        self._clock = clock or MonotonicClock()
        self._waiting: list[_Entry] = []  # a heap
        self._worst_wait_s = 0.0
        self._ages = itertools.count()
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._idle, self._idle_s, self._hangs_s = idle, idle_s, hangs_s
        self._running: tuple[float, list[Future[Any]]] | None = None  # since when, and whose
        self._hangs = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()
        threading.Thread(target=self._watch, name=f"{name} watch", daemon=True).start()

    async def run(self, step: Step[T]) -> T:
        """Wait for a step's result; what it raises is raised here.

        Cancelled while it waits, the step never runs. Cancelled while it runs, it runs to its end
        and later steps come after it, so state owned by this thread is never touched by two.

        Raises:
            StageError: the device hangs, in this step or in one before it.
        """
        return await asyncio.wrap_future(self.submit(step))

    def submit(self, step: Step[T]) -> Future[T]:
        """The same without waiting."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed.is_set():
                raise RuntimeError("the device thread is closed; its engine was left")
            if self._hangs:
                future.set_exception(self._hanging())
            else:
                self._push(future, step, kept=False)
        return future

    def afterwards(self, step: Step[Any]) -> None:
        """Have something tidied up; nobody waits for it, and it comes even after what hangs."""
        with self._changed:
            if not self._closed.is_set():
                self._push(Future(), step, kept=True)

    def _push(self, future: Future[Any], step: Step[Any], *, kept: bool) -> None:
        now = self._clock.now()
        deadline = now + SLACK_S[step.lane]
        heapq.heappush(self._waiting, _Entry(deadline, next(self._ages), now, future, step, kept))
        self._changed.notify()

    def load(self) -> Load:
        """How busy it is; the worst wait is counted anew from here."""
        with self._changed:
            worst, self._worst_wait_s = self._worst_wait_s, 0.0
            return Load(len(self._waiting), worst)

    @property
    def hangs(self) -> bool:
        """A step has been running for so long that it is not expected to end."""
        return self._hangs

    def close(self) -> None:
        """Drop what waits, let the running step end, and end the thread."""
        with self._changed:
            self._closed.set()
            for entry in self._waiting:
                entry.future.cancel()
            self._waiting.clear()
            self._changed.notify()
        if threading.current_thread() is not self._thread and not self._hangs:
            self._thread.join()

    def _work(self) -> None:
        with self._around():
            while True:
                with self._changed:
                    self._running, self._hangs = None, False
                    idle = not self._changed.wait_for(self._wanted, self._idle_s)
                if idle:
                    self._idle()
                with self._changed:
                    self._changed.wait_for(self._wanted)
                    if self._closed.is_set():
                        return
                    entries, now = self._take(), self._clock.now()
                    self._worst_wait_s = max(
                        (self._worst_wait_s, *(now - entry.asked for entry in entries))
                    )
                    entries = [e for e in entries if e.future.set_running_or_notify_cancel()]
                    if not entries:
                        continue
                    self._running = now, [entry.future for entry in entries]
                with self._stream(entries[0].step.lane):
                    _finish([e.future for e in entries], [e.step for e in entries])
                del entries  # a waiting thread must not keep the last results alive

    def _take(self) -> list[_Entry]:
        """The step whose deadline is next, and those of its kind that may go with it."""
        first = heapq.heappop(self._waiting)
        kind, taken = type(first.step), [first]
        if kind.most > 1:
            alike = sorted(entry for entry in self._waiting if type(entry.step) is kind)
            taken += alike[: kind.most - 1]
            ages = {entry.age for entry in taken}
            self._waiting = [entry for entry in self._waiting if entry.age not in ages]
            heapq.heapify(self._waiting)
        return taken

    def _wanted(self) -> bool:
        return bool(self._waiting) or self._closed.is_set()

    def _watch(self) -> None:
        while not self._closed.wait(self._hangs_s / 10):
            with self._changed:
                self._look()  # by itself: whatever a step gives back must not live on in here

    def _look(self) -> None:
        """Give up a step that hangs, and all that wait after it."""
        if self._running is None or self._hangs:
            return
        since, futures = self._running
        if self._clock.now() - since <= self._hangs_s:
            return
        self._hangs = True
        log.error("%s hangs: a step has not ended for %g s", self._name, self._hangs_s)
        kept = [entry for entry in self._waiting if entry.kept]
        lost = [entry.future for entry in self._waiting if not entry.kept]
        for given_up in (*futures, *lost):
            with suppress(InvalidStateError):  # it has just ended, or was cancelled
                given_up.set_exception(self._hanging())
        self._waiting = kept
        heapq.heapify(self._waiting)

    def _hanging(self) -> StageError:
        return StageError(
            f"{self._name} has not finished a step for {self._hangs_s:g} s; restart the program"
        )


def _finish(futures: list[Future[Any]], steps: list[Step[Any]]) -> None:
    """Run a batch; whoever waits for a step gets its result, or what it raises."""
    try:
        results = [steps[0].run()] if len(steps) == 1 else type(steps[0]).run_together(steps)
    except BaseException as error:
        for future in futures:
            with suppress(InvalidStateError):  # it was given up
                future.set_exception(error)
    else:
        for future, result in zip(futures, results, strict=True):
            with suppress(InvalidStateError):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
