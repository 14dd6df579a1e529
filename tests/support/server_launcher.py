"""A server process without weights: real sockets and pipeline, scripted models that fail on order.

    python server_launcher.py '{"server": {"max_sessions": 2}, "pieces": 500}'

Options: `server` as in `ServerOptions`, `turn` as in `TurnOptions`; `pieces` of each reply,
`piece_s` that each takes; `rate_hz` of the voice; `fails`: a model ("asr", "llm", "voice") that
fails the first `times` times with a `failure` of `FAILURES`, or takes `HANG_S` ("hang"); `hangs_s`:
the device is taken to hang after so long; `espeak`: the real voice, whose process may hang for as
long.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from scripted import OPTIONS, Call, Script, ScriptedDialogue, ScriptedRecognizer, ScriptedVoice
from stand import Stand

from textpro_stream.cli.quiet import quieten
from textpro_stream.cli.serve import until_stopped
from textpro_stream.clock import MonotonicClock
from textpro_stream.config import ServerOptions, Settings, SpeechOptions, TurnOptions
from textpro_stream.contracts import (
    AudioChunk,
    SpokenChunk,
    Transcript,
)
from textpro_stream.errors import StageError
from textpro_stream.ports import Talk
from textpro_stream.runtime.device import HANGS_S, DeviceThread
from textpro_stream.runtime.health import Health
from textpro_stream.server.app import Server
from textpro_stream.speech import open_voice

WORDS = [(" What", 0.8), (" time", 1.1), (" is it?", 1.4)]

HANG_S = 2.0

FAILURES: dict[str, Exception] = {
    "bug": RuntimeError("scripted failure"),
    "nan": StageError("the LLM gave no numbers"),
    "memory": MemoryError("CUDA out of memory"),
}


@dataclass
class Faults:
    """Which model fails, how often still, and how."""

    model: str = ""
    left: int = 0
    failure: str = "bug"

    def strike(self, model: str) -> None:
        if model == self.model and self.left > 0:
            self.left -= 1
            if self.failure == "hang":
                time.sleep(HANG_S)
            else:
                raise FAILURES[self.failure]


class FaultyRecognizer(ScriptedRecognizer):
    def __init__(self, script: Script, start: int, faults: Faults) -> None:
        super().__init__(script, start)
        self._faults = faults

    def push(self, item: AudioChunk, /) -> Sequence[Transcript]:
        self._faults.strike("asr")
        return super().push(item)


@dataclass
class FaultyScript(Script):
    faults: Faults = field(default_factory=Faults)

    def open(self, start: int) -> FaultyRecognizer:
        return FaultyRecognizer(self, start, self.faults)


class FaultyDialogue(ScriptedDialogue):
    """Gives its memory back where the real one has it: on the device, which must answer."""

    async def rest(self) -> None:
        assert self.device is not None
        await self.device.run(Call(lambda: None))
        await super().rest()


@dataclass
class FaultyVoice(ScriptedVoice):
    faults: Faults = field(default_factory=Faults)

    async def speak(
        self, text: str, *, start: int = 0, text_start: int = 0, speed: float = 1.0
    ) -> AsyncIterator[SpokenChunk]:
        self.faults.strike("voice")
        async for chunk in super().speak(text, start=start, text_start=text_start, speed=speed):
            yield chunk


class ScriptedEngine:
    """What a server needs of an engine."""

    def __init__(self, order: dict[str, Any]) -> None:
        rules = order.get("turn", {})
        self.settings, self.late_s = Settings(turn=TurnOptions(**rules)), 0.0
        self._options = replace(OPTIONS, **rules)
        self.dialogues: list[ScriptedDialogue] = []  # of the conversations so far
        self.llm = SimpleNamespace(knows_tools=True)
        self.health = Health()
        self._faults = Faults(
            order.get("fails", ""), order.get("times", 1), order.get("failure", "bug")
        )
        self.voice: Any = FaultyVoice(rate_hz=order.get("rate_hz", 16_000), faults=self._faults)
        self._device = DeviceThread("scripted device", hangs_s=order.get("hangs_s", HANGS_S))
        self._pieces = order.get("pieces")
        self._piece_s = order.get("piece_s", 0.0)

    @property
    def healthy(self) -> bool:
        return self.health.healthy and not self._device.hangs

    @property
    def faults(self) -> dict[str, int]:
        return dict(self.health.faults)

    def load_figures(self) -> Any:
        return self._device.load()

    def close(self) -> None:
        self._device.close()

    def _decode(self) -> None:
        """A piece of a reply."""
        self._faults.strike("llm")
        time.sleep(self._piece_s)

    def open(self, *, live: bool = True) -> Talk:
        dialogue = FaultyDialogue(step=self._decode)
        if self._pieces:
            dialogue.pieces = [f" word{n}," for n in range(self._pieces)]
        self.dialogues.append(dialogue)
        return Stand(
            self._device,
            FaultyScript(WORDS, faults=self._faults),
            dialogue,
            self.voice,
            options=self._options,
            clock=MonotonicClock(),
            health=self.health,
        ).open(live=live)


async def main(order: dict[str, Any]) -> None:
    options = ServerOptions(**{"port": 0, **order.get("server", {})})
    engine = ScriptedEngine(order)
    if hangs_s := order.get("espeak"):
        engine.voice = await open_voice(SpeechOptions())
        engine.voice._hangs_s = hangs_s
    async with Server(engine, options) as server:
        await until_stopped(server)


if __name__ == "__main__":
    quieten()
    asyncio.run(main(json.loads(sys.argv[1])))
