"""One run of the worker process, seen from outside: requests in, messages of each utterance out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Sequence

from textpro_stream.errors import ConfigError, StageError
from textpro_stream.speech import worker

Message = tuple[bytes, bytes]  # kind and payload
START_S = 30.0  # a Piper voice of 100 MB on a slow disk


class WorkerGone(Exception):
    """The process ended, or was ended, before the utterance was over."""


class Process:
    """A running worker. `start` makes one; it never comes back to life.

    Several utterances may be under way; the worker speaks them one after the other.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Queue[Message | None]] = {}
        self._over: set[int] = set()  # said to be over, and nobody has read that yet
        self._stale: set[int] = set()  # cancelled, and not yet said to be over
        self._quiet = asyncio.Event()  # none of those
        self._quiet.set()
        self._reader: asyncio.Task[None] | None = None
        self.rate_hz = 0
        self.n_messages = 0  # heard so far: tells a busy worker from one that hangs

    @classmethod
    async def start(cls, arguments: Sequence[str]) -> Process:
        """Start a worker and wait until it can speak.

        Raises:
            ConfigError: it says why it cannot; the message is one line with the fix.
            StageError: it ended without a word, or said nothing for too long.
        """
        process = cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # what lies in the user's current folder is not a module of ours
                "-m",
                worker.__name__,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # it reports through messages
                start_new_session=True,  # a terminal's Ctrl-C is ours to handle
            )
        )
        try:
            async with asyncio.timeout(START_S):
                kind, _, payload = await process._receive()
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            await process.end()
            raise StageError("the voice's process did not start; try again") from error
        except BaseException:
            await process.end()
            raise
        if kind == worker.FAILED:
            await process.end()
            raise ConfigError(payload.decode())
        (process.rate_hz,) = worker.RATE.unpack(payload)
        process._reader = asyncio.create_task(process._listen(), name="voice messages")
        return process

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def gone(self) -> bool:
        """It ended."""
        return self._reader is None or self._reader.done()

    def speak(self, text: str, pause: bool, rate_wpm: int) -> int:
        """Ask for an utterance; its number."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.Queue()
        self._send(worker.SPEAK, number, worker.MANNER.pack(pause, rate_wpm) + text.encode())
        return number

    async def next_message(self, utterance: int) -> Message:
        """The next message of an utterance.

        Raises:
            WorkerGone: there will be none.
        """
        queue = self._waiting[utterance]
        if self.gone and queue.empty():
            raise WorkerGone
        message = await queue.get()
        if message is None:
            raise WorkerGone
        if message[0] in (worker.DONE, worker.FAILED):
            self._waiting.pop(utterance, None)
            self._over.discard(utterance)
        return message

    def cancel(self, utterance: int) -> bool:
        """Forget an utterance now; False if it was over already."""
        waiting, over = self._waiting.pop(utterance, None), utterance in self._over
        self._over.discard(utterance)
        if waiting is None or over or self.gone:
            return False
        self._stale.add(utterance)
        self._quiet.clear()
        self._send(worker.CANCEL, utterance)
        return True

    async def quiet(self) -> None:
        """Return once the worker has dropped all that was cancelled, or has ended."""
        await self._quiet.wait()

    async def end(self) -> None:
        """Kill it. Whoever waits for a message gets `WorkerGone`."""
        # Not `self._process.kill()`: it would reap a process that has just died by itself, and
        # asyncio, which waits for it, would log that it lost its child.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        self._stdin.close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            await self._stdin.wait_closed()
        if self._reader is not None:
            await self._reader
        else:
            await self._stdout.read()  # to its end, which closes the pipe
        await self._process.wait()

    def _send(self, kind: bytes, utterance: int, payload: bytes = b"") -> None:
        if not self._stdin.is_closing():
            self._stdin.write(worker.HEADER.pack(kind, utterance, len(payload)) + payload)

    async def _receive(self) -> tuple[bytes, int, bytes]:
        header = await self._stdout.readexactly(worker.HEADER.size)
        kind, utterance, length = worker.HEADER.unpack(header)
        return kind, utterance, await self._stdout.readexactly(length)

    async def _listen(self) -> None:
        try:
            while True:
                kind, utterance, payload = await self._receive()
                self.n_messages += 1
                if queue := self._waiting.get(utterance):
                    queue.put_nowait((kind, payload))
                    if kind in (worker.DONE, worker.FAILED):
                        self._over.add(utterance)
                elif kind in (worker.DONE, worker.FAILED):
                    self._stale.discard(utterance)
                    if not self._stale:
                        self._quiet.set()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass  # it ended
        finally:
            self._quiet.set()
            for queue in self._waiting.values():
                queue.put_nowait(None)
