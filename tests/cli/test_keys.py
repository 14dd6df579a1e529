"""Single keys from a real (pseudo) terminal, which is left as it was."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import sys
import termios

import pytest

from textpro_stream.cli.keys import keyboard, push_to_talk
from textpro_stream.commands import Press, Release
from textpro_stream.errors import ConfigError


async def test_keys_come_one_by_one_and_the_terminal_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        before = termios.tcgetattr(slave)
        with keyboard() as keys:
            os.write(master, b" x")
            assert [await asyncio.wait_for(anext(keys), 5) for _ in range(2)] == [" ", "x"]
        assert termios.tcgetattr(slave) == before
    os.close(master)


async def test_a_pipe_is_no_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(ConfigError, match="terminal"), keyboard():
        pass


async def test_space_and_enter_take_turns() -> None:
    class Told:
        commands: list[object] = []  # noqa: RUF012 - one use

        async def push(self, item: object) -> None:
            self.commands.append(item)

    async def keys():
        for key in " x\n \r":
            yield key

    await push_to_talk(keys(), Told())
    assert Told.commands == [Press(), Release(), Press(), Release()]
