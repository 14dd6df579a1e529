"""Weights, loaded once and shared: an `Engine` opens conversations.

It is the only place that knows which classes stand behind the doors. Models load side by side, and
what a run does not need (no replies, no voice) is not loaded at all.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from textpro_stream.clock import MonotonicClock
from textpro_stream.ports import Clock
from textpro_stream.config import DeviceOptions, Settings
from textpro_stream.errors import DeviceError
from textpro_stream.pipeline.conversation import Conversation
from textpro_stream.runtime.device import DeviceThread, Load
from textpro_stream.pipeline.listener import Ear
from textpro_stream.pipeline.failure import first
from textpro_stream.pipeline.reply_player import Giver
from textpro_stream.runtime.health import Health
from textpro_stream.runtime.memory import give_back
from textpro_stream.runtime.lateness import Lateness
from textpro_stream.pipeline.responder import Mind
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.runtime.loading import in_thread
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn import BargeIn, Endpointer, VadModel, load_vad

if TYPE_CHECKING:
    import torch

    from textpro_stream.llm import LanguageModel
    from textpro_stream.speech import Voice
    from textpro_stream.store import Kind, Progress
    from textpro_stream.whisper import WhisperPro

Folders = dict["Kind", Path]


class Engine:
    """Everything that conversations share. Make one with `load`, end it with `close`."""

    def __init__(
        self,
        settings: Settings,
        *,
        asr: WhisperPro,
        vad: VadModel,
        llm: LanguageModel | None,
        voice: Voice | None,
        device: DeviceThread,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.asr, self.llm, self.voice = asr, llm, voice
        self._vad, self._device, self._clock = vad, device, clock
        self._health, self._lateness = Health(), Lateness()

    @classmethod
    async def load(
        cls,
        settings: Settings | None = None,
        *,
        replies: bool = True,
        speech: bool = True,
        progress: Progress | None = None,
        clock: Clock | None = None,
    ) -> Self:
        """Fetch what is missing and load what is needed.

        Args:
            settings: all options; defaults without it.
            replies: False stops after the transcript: neither LLM nor voice is loaded.
            speech: False makes no audio.
            progress: told of downloads, see `store.resolve`.
            clock: for tests.

        Raises:
            ConfigError, WeightsError, DeviceError: one line says what to do.
        """
        settings = settings or Settings()
        folders = await in_thread(
            partial(_resolve, settings, replies=replies, speech=speech, progress=progress)
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                # The voice is a process of its own, so it starts while we import torch.
                voice = tasks.create_task(_open_voice(folders, settings, replies and speech))
                device = tasks.create_task(in_thread(partial(torch_device, settings.device)))
                asr = tasks.create_task(_load_asr(folders, settings, device))
                llm = tasks.create_task(_load_llm(folders, settings, device, asr))
                vad = tasks.create_task(
                    in_thread(partial(load_vad, settings.turn, folders.get("vad")))
                )
        except BaseException as error:
            if voice.done() and not voice.cancelled() and not voice.exception():
                await _close(voice.result())
            raise first(error) from None
        return cls(
            settings,
            asr=asr.result(),
            vad=vad.result(),
            llm=llm.result(),
            voice=voice.result(),
            device=_device_thread(device.result()),
            clock=clock or MonotonicClock(),
        )

    @property
    def healthy(self) -> bool:
        """Every model did what it was last asked for, or failed but a few times in a row.

        And the device does not hang.
        """
        return self._health.healthy and not self._device.hangs

    @property
    def faults(self) -> dict[str, int]:
        """Failures so far: asr, llm, voice."""
        return {model: self._health.faults[model] for model in ("asr", "llm", "voice")}

    @property
    def late_s(self) -> float:
        """By how much hearing lags behind the microphones: p95 of the last ten seconds."""
        return self._lateness.p95_s(self._clock.now())

    def load_figures(self) -> Load:
        """How many steps wait for the device, and the worst wait since this was last asked."""
        return self._device.load()

    def open(
        self, *, settings: Settings | None = None, live: bool = True, record: bool = False
    ) -> Conversation:
        """A conversation of its own, sharing the weights.

        Args:
            settings: its own options about turns, prosody and replies; without it the engine's.
                Models, dtypes and device are those that were loaded.
            live: audio comes at its own pace; see `Conversation`.
            record: keep the spans of `Conversation.trace` for a Chrome trace.
        """
        settings, clock = settings or self.settings, self._clock
        trace = Trace(clock, record=record)
        outbox = Outbox()
        from textpro_stream.prosody import ProsodyTracker

        ear = Ear(
            lambda start: self.asr.open(start, trace),
            Endpointer(self._vad.open(), settings.turn),
            ProsodyTracker(settings.prosody),
            BargeIn(settings.turn),
            preroll_ms=settings.turn.preroll_ms,
            trace=trace,
            clock=clock,
        )
        mind = None
        if (llm := self.llm) is not None:
            giver = Giver(
                self.voice,
                device=self._device,
                outbox=outbox,
                health=self._health,
                trace=trace,
                clock=clock,
                listened=live and settings.turn.barge_in,
            )
            mind = Mind(
                lambda: llm.open(settings.llm, trace),
                giver,
                options=settings.llm,
                device=self._device,
                outbox=outbox,
                health=self._health,
                trace=trace,
                clock=clock,
            )
        return Conversation(
            ear,
            mind,
            outbox=outbox,
            device=self._device,
            health=self._health,
            lateness=self._lateness,
            trace=trace,
            clock=clock,
            live=live,
        )

    async def close(self) -> None:
        """End the voice's process and the device's thread."""
        await _close(self.voice)
        await asyncio.to_thread(self._device.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()


def _resolve(
    settings: Settings, *, replies: bool, speech: bool, progress: Progress | None
) -> Folders:
    """Folders of the models that this run needs, by kind."""
    from textpro_stream import store

    wanted: dict[store.Kind, str] = {"whisper": settings.whisper.model}
    if settings.turn.vad == "silero":
        wanted["vad"] = "silero-vad"
    if replies:
        wanted["llm"] = settings.llm.model
    if replies and speech and settings.speech.engine == "piper":
        wanted["voice"] = settings.speech.voice
    return {
        kind: Path(name) if Path(name).is_file() else store.resolve(name, kind, progress=progress)
        for kind, name in wanted.items()
    }


def torch_device(options: DeviceOptions) -> torch.device:
    """The device that `options` name, with its threads set.

    Raises:
        DeviceError: CUDA was asked for and is not there.
    """
    # Read by OpenMP when torch is first imported. Its waiting threads otherwise spin: beside one
    # other busy process, two threads then took 3 times as long as one (load 14.5 s against 4.7 s,
    # 56 reply tokens 14.2 s against 1.9 s); waiting passively costs nothing measurable.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    torch.set_num_threads(options.threads or min(4, physical_cores()))
    name = options.name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise DeviceError(f"device {name!r}: give auto, cpu, cuda or cuda:N", name=name)
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "device cuda: this PyTorch sees no GPU; choose --device cpu, or see textpro doctor",
            name=name,
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name}: there are {torch.cuda.device_count()} GPUs, counted from 0", name=name
        )
    return torch.device(name)


def physical_cores() -> int:
    """Cores this process may run on, hyperthreads of one core counted once."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if usable is None:
        return max(1, (os.cpu_count() or 2) // 2)
    cores = set()
    for cpu in usable:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def _device_thread(device: torch.device) -> DeviceThread:
    import torch

    # Nobody is heard: a microphone that is open asks for something every 20 ms.
    return DeviceThread(f"device {device}", torch.inference_mode, idle=give_back)


async def _load_asr(
    folders: Folders, settings: Settings, device: asyncio.Task[torch.device]
) -> WhisperPro:
    where = await device  # imports torch: two threads doing so would wait for each other
    from textpro_stream.whisper import WhisperPro

    folder = folders["whisper"]
    return await in_thread(partial(WhisperPro.load, folder, settings.whisper, where))


async def _load_llm(
    folders: Folders,
    settings: Settings,
    device: asyncio.Task[torch.device],
    asr: asyncio.Task[WhisperPro],
) -> LanguageModel | None:
    if "llm" not in folders:
        return None
    where = await device
    from textpro_stream.llm import LanguageModel

    folder, d_prosody = folders["llm"], None
    if settings.llm.projector or (folder / "textpro_config.json").is_file():
        d_prosody = (await asr).d_prosody  # a projector has to fit the recognizer
    load = partial(LanguageModel.load, folder, settings.llm, where, d_prosody=d_prosody)
    return await in_thread(load)


async def _open_voice(folders: Folders, settings: Settings, wanted: bool) -> Voice | None:
    if not wanted or settings.speech.engine == "none":
        return None
    from textpro_stream.speech import open_voice

    options = settings.speech
    if "voice" in folders:
        options = replace(options, voice=str(folders["voice"]))
    return await open_voice(options)


async def _close(voice: Voice | None) -> None:
    if voice is not None:
        await voice.close()
