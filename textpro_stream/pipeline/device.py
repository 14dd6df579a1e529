"""One worker thread per device: torch runs here, the event loop only moves values.

Steps are short (an audio block, a prefill, one token), and the most urgent of those waiting goes
first. So a reply being decoded never holds up the ear for more than one step, and cancelling
takes effect after at most one. It knows nothing of what the steps do.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Any, TypeVar

T = TypeVar("T")


class Priority(IntEnum):
    """Who goes first when several steps wait. Words before memory before the next token."""

    HEAR = 0
    PREFILL = 1
    DECODE = 2


class DeviceThread:
    """Runs steps one after another, by priority, then by age.

    Args:
        name: of the thread, as it appears in a debugger.
        around: entered once in the thread, around its whole life (torch's inference mode).
    """

    def __init__(
        self, name: str, around: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self._around = around
        self._waiting: list[tuple[int, int, Future[Any], Callable[[], Any]]] = []
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
            heapq.heappush(self._waiting, (priority, next(self._ages), future, step))
            self._changed.notify()
        return future

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
                    *_, future, step = heapq.heappop(self._waiting)
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    future.set_result(step())
                except BaseException as error:  # whoever waits for the step gets it
                    future.set_exception(error)
                del future, step  # a waiting thread must not keep the last result alive
