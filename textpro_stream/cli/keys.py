"""Single keys from a terminal, without Enter and without echo."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from textpro_stream.commands import Press, Release
from textpro_stream.errors import ConfigError
from textpro_stream.ports import Talk


@contextmanager
def keyboard() -> Iterator[AsyncIterator[str]]:
    """Keys as they are pressed. The terminal is as it was when the block is left.

    Raises:
        ConfigError: standard input is no terminal.
    """
    if not sys.stdin.isatty():
        raise ConfigError("--push-to-talk reads keys: run it in a terminal")
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()
    pressed: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for key in os.read(descriptor, 64).decode(errors="ignore"):
            pressed.put_nowait(key)

    async def keys() -> AsyncIterator[str]:
        while True:
            yield await pressed.get()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield keys()
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def push_to_talk(keys: AsyncIterator[str], talk: Talk) -> None:
    """Space or Enter begins a turn, and again ends it: a terminal does not see keys go up."""
    speaking = False
    async for key in keys:
        if key in " \r\n":
            speaking = not speaking
            await talk.push(Press() if speaking else Release())
