"""One worker thread per device: torch runs here, the event loop only moves values.

Steps are short (an audio block, a prefill, one token). Each has a deadline, the moment at which it
was asked for plus what its kind can wait, and the earliest goes first (Liu and Layland, 1973). So
words come before the next token, and yet nothing starves: a step waits at most for its slack and
for the steps that were asked for before its deadline. A conversation has at most two steps at a
time, one of its ear and one of its mind, so with n conversations those are fewer than 2 n, and
conversations take turns by themselves. It knows nothing of what the steps do.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from textpro_stream.clock import Clock, MonotonicClock

T = TypeVar("T")


class Priority(IntEnum):
    """Who goes first when several steps wait. Words before memory before the next token."""

    HEAR = 0
    PREFILL = 1
    DECODE = 2


# Seconds that a kind of step can wait. A word read 20 ms late costs nobody anything, since the
# endpoint waits for hundreds; a token 60 ms late is still faster than speech. More slack than one
# conversation's whole block of hearing (some 50 ms) would not change who goes first.
SLACK_S = {Priority.HEAR: 0.0, Priority.PREFILL: 0.02, Priority.DECODE: 0.06}


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
        clock: for the deadlines.
    """

    def __init__(
        self,
        name: str,
        around: Callable[[], AbstractContextManager[object]] = nullcontext,
        clock: Clock | None = None,
    ) -> None:
        self._around = around
        self._clock = clock or MonotonicClock()
        # deadline, age, when it was asked for, whose, what
        self._waiting: list[tuple[float, int, float, Future[Any], Callable[[], Any]]] = []
        self._worst_wait_s = 0.0
        self._ages = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, priority: Priority, step: Callable[[], T]) -> T:
        """Wait for a step's result; what it raises is raised here.

        Cancelled while it waits, the step never runs. Cancelled while it runs, it runs to its end
        and later steps come after it, so state owned by this thread is never touched by two.
        """
        return await asyncio.wrap_future(self.submit(priority, step))

    def submit(self, priority: Priority, step: Callable[[], T]) -> Future[T]:
        """The same without waiting."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the device thread is closed; its engine was left")
            now = self._clock.now()
            entry = (now + SLACK_S[priority], next(self._ages), now, future, step)
            heapq.heappush(self._waiting, entry)
            self._changed.notify()
        return future

    def load(self) -> Load:
        """How busy it is; the worst wait is counted anew from here."""
        with self._changed:
            worst, self._worst_wait_s = self._worst_wait_s, 0.0
            return Load(len(self._waiting), worst)

    def close(self) -> None:
        """Drop what waits, let the running step end, and end the thread."""
        with self._changed:
            self._closed = True
            for *_, future, _ in self._waiting:
                future.cancel()
            self._waiting.clear()
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        with self._around():
            while True:
                with self._changed:
                    while not self._waiting and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    _, _, asked, future, step = heapq.heappop(self._waiting)
                    wait = self._clock.now() - asked
                    self._worst_wait_s = max(self._worst_wait_s, wait)
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    future.set_result(step())
                except BaseException as error:  # whoever waits for the step gets it
                    future.set_exception(error)
                del future, step  # a waiting thread must not keep the last result alive
