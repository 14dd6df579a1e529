"""Having a server read a prompt that grows while somebody speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from textpro_stream.errors import StageError
from textpro_stream.llm.remote.prompt import Prompt

GAP_S = 0.2  # between two beginnings: a server that others use too is asked five times a second
BACK_OFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # after faults in a row; a reply tries by itself


class Prefill:
    """One request at a time; the newest prompt wins. Its faults are silent: a reply tells them.

    Args:
        send: has a prompt read, and returns when it is.
    """

    def __init__(self, send: Callable[[Prompt], Awaitable[None]]) -> None:
        self._send = send
        self._wanted: Prompt | None = None
        self._read: Prompt | None = None
        self._task: asyncio.Task[None] | None = None
        self._not_before, self._faults = 0.0, 0

    def want(self, prompt: Prompt) -> None:
        """Have this read, as soon as what is being read is done."""
        self._wanted = prompt
        if self._task is None or self._task.done() or self._task.cancelling():
            self._task = asyncio.create_task(self._run(self._task), name="prefill")

    def stop(self) -> None:
        """Ask no more. What the server has read, it keeps."""
        self._wanted = None
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Leave no task behind, and take nothing for read."""
        self.stop()
        self._read = None
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            await asyncio.wait({before})
        now = asyncio.get_running_loop().time
        while self._wanted not in (None, self._read):
            await asyncio.sleep(max(0.0, self._not_before - now()))
            prompt, self._wanted = self._wanted, None
            assert prompt is not None, "`stop` cancels this task"
            self._not_before = now() + GAP_S
            try:
                await self._send(prompt)
            except StageError:
                self._not_before = now() + BACK_OFF_S[min(self._faults, len(BACK_OFF_S) - 1)]
                self._faults += 1
            else:
                self._read, self._faults = prompt, 0
