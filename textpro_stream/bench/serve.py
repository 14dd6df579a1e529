"""The measured server: a process of its own, so that client and server share no interpreter.

One process, one set of weights, one engine; a port for our own conversations and one for each
baseline. The process is told what to load by the first line of its standard input, answers each
further line with its CPU time, and ends when its input does: it cannot outlive whoever started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from textpro_stream.bench.drive import FAST
from textpro_stream.config import ServerOptions, Settings
from textpro_stream.errors import DeviceError, TextproError

if TYPE_CHECKING:
    from textpro_stream.bench.stepwise import Kind, Parts
    from textpro_stream.pipeline.engine import Engine

OURS = "streaming"
PATH = "/v1/stream"
WHOLE = 1500  # positions, 30 s: a block longer than a recording, so one pass over all of it
ENDS_S = 10.0  # to close sessions and models


class MeasuredServer:
    """The process, seen from outside.

    Args:
        settings: of the engine.
        baselines: serve those as well.
    """

    def __init__(self, settings: Settings, *, baselines: bool) -> None:
        self._order = {"settings": asdict(settings), "baselines": baselines}
        self._process: asyncio.subprocess.Process | None = None
        self.urls: dict[str, str] = {}  # by system
        self.facts: dict[str, Any] = {}  # what computes there

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "textpro_stream.bench.serve",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            answer = await self._ask(json.dumps(self._order))
        except BaseException:
            await self._end()
            raise
        self.urls = {name: f"ws://127.0.0.1:{port}{PATH}" for name, port in answer["ports"].items()}
        self.facts = answer["facts"]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def cpu_s(self) -> float:
        """CPU seconds that the server has used."""
        return float((await self._ask("cpu"))["cpu_s"])

    async def _ask(self, line: str) -> dict[str, Any]:
        process = self._process
        assert process is not None, "enter the server before asking it"
        assert process.stdin is not None, "it was opened with pipes"
        assert process.stdout is not None, "it was opened with pipes"
        process.stdin.write(line.encode() + b"\n")
        answer = await process.stdout.readline()
        if not answer:
            raise DeviceError(
                f"the measured server ended with status {await process.wait()}; its message is"
                " above. textpro doctor shows what is missing"
            )
        value: dict[str, Any] = json.loads(answer)
        return value

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None, "it was opened with pipes"
        process.stdin.close()
        try:
            async with asyncio.timeout(ENDS_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def settings_from(values: dict[str, dict[str, Any]]) -> Settings:
    """The settings that `asdict` made these of."""
    whole = Settings()
    return Settings(
        **{
            field.name: type(getattr(whole, field.name))(**values[field.name])
            for field in fields(Settings)
        }
    )


def parts_of(engine: Engine, stack: AsyncExitStack) -> Parts:
    """What baselines share with our own conversations: the engine's models, a thread of theirs."""
    import torch

    from textpro_stream import store
    from textpro_stream.bench.stepwise import Parts
    from textpro_stream.clock import MonotonicClock
    from textpro_stream.llm.local import LocalEngine
    from textpro_stream.runtime.device import DeviceThread
    from textpro_stream.turn import load_vad

    settings = engine.settings
    assert isinstance(engine.llm, LocalEngine), "a baseline replies, with the same weights"
    asr = engine.asr
    whole = replace(asr.policy, grid=replace(asr.policy.grid, block=WHOLE))
    folder = store.resolve("silero-vad", "vad") if settings.turn.vad == "silero" else None
    device = DeviceThread("baselines", torch.inference_mode)
    stack.callback(device.close)
    llm = LocalEngine(engine.llm.model, device)
    return Parts(
        open_recognizer=lambda start, trace: asr.open(start, trace, policy=whole),
        open_dialogue=lambda trace: llm.open(settings.llm, trace),
        voice=engine.voice,
        vad=load_vad(settings.turn, folder),
        device=device,
        clock=MonotonicClock(),
        turn=settings.turn,
    )


async def _serve(order: dict[str, Any], lines: asyncio.StreamReader) -> None:
    from textpro_stream.bench.stepwise import KINDS, StepwiseConversation
    from textpro_stream.pipeline.engine import Engine
    from textpro_stream.runtime.memory import freeze_gc
    from textpro_stream.server.app import Server

    settings = settings_from(order["settings"])
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(await Engine.load(settings))
        # What refuses others here is not what is measured: rooms for a crowd, however badly it is
        # then served, and for baselines audio at more than the pace of speech.
        options = ServerOptions(
            host="127.0.0.1", port=0, max_sessions=64, max_late_s=0.0, audio_speed=2 * FAST
        )
        ours = await stack.enter_async_context(Server(engine, options))
        ports = {OURS: ours.port}
        if order["baselines"]:
            parts = parts_of(engine, stack)

            def open_baseline(kind: Kind, *, live: bool = True) -> StepwiseConversation:
                return StepwiseConversation(parts, kind)

            for kind in KINDS:
                server = Server(engine, options, open_conversation=partial(open_baseline, kind))
                ports[kind] = (await stack.enter_async_context(server)).port
        freeze_gc()  # as `textpro serve` does
        _say({"ports": ports, "facts": _facts(engine)})
        while await lines.readline():
            times = os.times()
            _say({"cpu_s": times.user + times.system})


def _facts(engine: Engine) -> dict[str, Any]:
    import torch

    settings, llm = engine.settings, engine.llm
    return {
        "threads": torch.get_num_threads(),
        "device": llm.facts.get("device", settings.device.name) if llm else settings.device.name,
        "llm_dtype": llm.facts.get("dtype", "") if llm else "",
        "torch": torch.__version__,
    }


def _say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


async def _main() -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    await _serve(json.loads(await lines.readline()), lines)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us
    try:
        asyncio.run(_main())
    except TextproError as error:
        print(f"textpro: {error}", file=sys.stderr)
        sys.exit(2)
