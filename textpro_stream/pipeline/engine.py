"""Weights, loaded once and shared: an `Engine` opens conversations.

It is the only place that knows which classes stand behind the doors. Models load side by side, and
what a run does not need (no replies, no voice) is not loaded at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from textpro_stream.clock import MonotonicClock
from textpro_stream.config import Settings
from textpro_stream.errors import unwrap
from textpro_stream.pipeline.audience import Audience
from textpro_stream.pipeline.context import ConversationContext
from textpro_stream.pipeline.conversation import Conversation
from textpro_stream.pipeline.listener import Listener
from textpro_stream.pipeline.numbers import TurnNumbers
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.pipeline.recording import Recorder
from textpro_stream.pipeline.reply_player import ReplyPlayer
from textpro_stream.pipeline.responder import Responder
from textpro_stream.ports import Clock, LlmEngine, VadModel
from textpro_stream.runtime.device import DeviceThread, Load
from textpro_stream.runtime.hardware import device_thread, torch_device
from textpro_stream.runtime.health import Health
from textpro_stream.runtime.lateness import Lateness
from textpro_stream.runtime.loading import in_thread
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn import BargeIn, Endpointer, load_end_of_turn, load_vad

if TYPE_CHECKING:
    import torch

    from textpro_stream.ports import Progress
    from textpro_stream.prosody.tone import ToneHead
    from textpro_stream.speech import Voice
    from textpro_stream.store import Kind
    from textpro_stream.whisper import WhisperPro

Folders = dict["Kind", Path]
CONFIG_NAME = "textpro_config.json"  # beside the LLM of a released TextPro checkpoint


class Engine:
    """Everything that conversations share. Make one with `load`, end it with `close`."""

    def __init__(
        self,
        settings: Settings,
        *,
        asr: WhisperPro,
        vad: VadModel,
        llm: LlmEngine | None,
        voice: Voice | None,
        device: DeviceThread,
        clock: Clock,
        tone: ToneHead | None = None,
    ) -> None:
        self.settings = settings
        self.asr, self.llm, self.voice = asr, llm, voice
        self._vad, self._device, self._clock = vad, device, clock
        self._tone = tone
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
        load_end_of_turn(settings.turn)  # a missing file is told before anything is fetched
        folders = await in_thread(
            partial(_resolve, settings, replies=replies, speech=speech, progress=progress)
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                # The voice is a process of its own, so it starts while we import torch.
                voice = tasks.create_task(_open_voice(folders, settings, replies and speech))
                where = tasks.create_task(in_thread(partial(torch_device, settings.device)))
                device = tasks.create_task(_device_thread(where))
                asr = tasks.create_task(_load_asr(folders, settings, where))
                tone = tasks.create_task(_load_tone(settings, asr))
                llm = tasks.create_task(_load_llm(folders, settings, replies, where, device, asr))
                vad = tasks.create_task(
                    in_thread(partial(load_vad, settings.turn, folders.get("vad")))
                )
        except BaseException as error:
            if voice.done() and not voice.cancelled() and not voice.exception():
                await _close(voice.result())
            if device.done() and not device.cancelled() and not device.exception():
                device.result().close()
            raise unwrap(error) from None
        return cls(
            settings,
            asr=asr.result(),
            vad=vad.result(),
            llm=llm.result(),
            voice=voice.result(),
            device=device.result(),
            clock=clock or MonotonicClock(),
            tone=tone.result(),
        )

    @property
    def healthy(self) -> bool:
        """Every model did what it was last asked for, or failed but a few times in a row.

        And the device does not hang, and an LLM elsewhere answers.
        """
        reachable = self.llm is None or not self.llm.fault
        return self._health.healthy and not self._device.hangs and reachable

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
        self,
        *,
        settings: Settings | None = None,
        live: bool = True,
        trace_spans: bool = False,
        reserved: Iterable[int] = (),
        recorder: Recorder | None = None,
    ) -> Conversation:
        """A conversation of its own, sharing the weights.

        Args:
            settings: its own options about turns, prosody and replies; without it the engine's.
                Models, dtypes and device are those that were loaded.
            live: audio comes at its own pace, and somebody listens; see `Conversation`.
            trace_spans: keep the spans of `Conversation.trace` for a Chrome trace.
            reserved: turn numbers that commands will bring along, as those of a recording do.
            recorder: writes down what the conversation is told.
        """
        from textpro_stream.prosody import ProsodyTracker

        settings = settings or self.settings
        numbers = TurnNumbers(reserved)
        context = ConversationContext(
            device=self._device,
            outbox=Outbox(),
            audience=Audience(listens=live, may_interrupt=settings.turn.barge_in),
            health=self._health,
            lateness=self._lateness,
            trace=Trace(self._clock, record=trace_spans),
            clock=self._clock,
        )
        end_of_turn = load_end_of_turn(settings.turn)
        listener = Listener(
            lambda start: self.asr.open(start, context.trace),
            Endpointer(self._vad.open(), settings.turn, end_of_turn.p_required),
            ProsodyTracker(settings.prosody, self._tone),
            BargeIn(settings.turn),
            end_of_turn=end_of_turn,
            numbers=numbers,
            preroll_ms=settings.turn.preroll_ms,
            unclear=settings.turn.unclear,
            trace=context.trace,
            clock=context.clock,
        )
        responder = None
        if (llm := self.llm) is not None:
            options = settings.llm
            responder = Responder(
                lambda: llm.open(options, context.trace),
                ReplyPlayer(self.voice, context),
                context,
            )
        return Conversation(
            listener, responder, context, numbers=numbers, live=live, recorder=recorder
        )

    async def close(self) -> None:
        """End the voice's process and the device's thread."""
        await _close(self.voice)
        if self.llm is not None:
            await self.llm.close()
        await asyncio.to_thread(self._device.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _resolve(
    settings: Settings, *, replies: bool, speech: bool, progress: Progress | None
) -> Folders:
    """Folders of the models that this run needs, by kind."""
    from textpro_stream import store

    wanted: dict[store.Kind, str] = {"whisper": settings.whisper.model}
    if settings.turn.vad == "silero":
        wanted["vad"] = "silero-vad"
    if replies and not settings.llm.is_remote:
        wanted["llm"] = settings.llm.model
    if replies and speech and settings.speech.engine == "piper":
        wanted["voice"] = settings.speech.voice
    return {
        kind: Path(name) if Path(name).is_file() else store.resolve(name, kind, progress=progress)
        for kind, name in wanted.items()
    }


async def _load_asr(
    folders: Folders, settings: Settings, device: asyncio.Task[torch.device]
) -> WhisperPro:
    where = await device  # imports torch: two threads doing so would wait for each other
    from textpro_stream.whisper import WhisperPro

    options = settings.whisper
    if options.prosody == "auto" and (folders.get("llm", Path()) / CONFIG_NAME).is_file():
        options = replace(options, prosody="middle")  # a TextPro checkpoint reads the paper's
    return await in_thread(partial(WhisperPro.load, folders["whisper"], options, where))


async def _load_tone(settings: Settings, asr: asyncio.Task[WhisperPro]) -> ToneHead | None:
    if not settings.prosody.tone:
        return None
    from textpro_stream.prosody.tone import find_tone

    return find_tone(settings.prosody.readout, (await asr).fingerprint)


async def _device_thread(device: asyncio.Task[torch.device]) -> DeviceThread:
    return device_thread(await device)


async def _load_llm(
    folders: Folders,
    settings: Settings,
    replies: bool,
    device: asyncio.Task[torch.device],
    thread: asyncio.Task[DeviceThread],
    asr: asyncio.Task[WhisperPro],
) -> LlmEngine | None:
    if not replies:
        return None
    options = settings.llm
    if not settings.prosody.tone:  # the LLM is told nothing of it either
        options = replace(options, fusion="text")
    if options.is_remote:
        from textpro_stream.llm.remote import open_remote

        return open_remote(options)
    where = await device
    from textpro_stream.llm import LanguageModel
    from textpro_stream.llm.local import LocalEngine

    folder, load = folders["llm"], partial(LanguageModel.load, options=options, device=where)
    if options.projector or (folder / CONFIG_NAME).is_file():
        whisper = await asr  # a projector has to fit the recognizer
        load = partial(load, d_prosody=whisper.d_prosody, recogniser=whisper.fingerprint)
    return LocalEngine(await in_thread(partial(load, folder)), await thread)


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
