"""Run a coroutine from the command line so that Ctrl-C and SIGTERM end it at once and cleanly."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from textpro_stream.cli.signals import Terminated

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, and SIGTERM cancels as Ctrl-C does.

    Raises:
        KeyboardInterrupt: Ctrl-C; everything has been cleaned up.
        Terminated: SIGTERM; likewise.
    """
    with asyncio.Runner() as runner:
        return runner.run(_until_terminated(main))


async def _until_terminated(main: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    with suppress(NotImplementedError, ValueError, RuntimeError):  # not on this platform or thread
        loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await task
    except asyncio.CancelledError:
        if terminated:
            raise Terminated from None
        raise
