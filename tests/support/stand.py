"""A whole conversation over scripted neighbours; the pipeline itself is real."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scripted import (
    OPTIONS,
    LevelVad,
    Script,
    ScriptedDialogue,
    ScriptedVoice,
    WindowPerCommit,
    chunks,
)

from textpro_stream.clock import VirtualClock
from textpro_stream.ports import Clock
from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.contracts import AudioChunk
from textpro_stream.events import Event
from textpro_stream.pipeline.conversation import Conversation
from textpro_stream.runtime.device import DeviceThread
from textpro_stream.pipeline.listener import Ear
from textpro_stream.pipeline.reply_player import Giver
from textpro_stream.runtime.health import Health
from textpro_stream.runtime.lateness import Lateness
from textpro_stream.pipeline.responder import Mind
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn import BargeIn, Endpointer


@dataclass
class Stand:
    """A conversation's neighbours, and what it takes to open one."""

    device: DeviceThread
    script: Script
    dialogue: ScriptedDialogue | None = field(default_factory=ScriptedDialogue)
    voice: ScriptedVoice | None = field(default_factory=ScriptedVoice)
    options: TurnOptions = OPTIONS
    clock: Clock = field(default_factory=VirtualClock)
    health: Health = field(default_factory=Health)
    lateness: Lateness = field(default_factory=Lateness)

    def open(self, *, live: bool = False) -> Conversation:
        trace, outbox = Trace(self.clock), Outbox()
        ear = Ear(
            self.script.open,
            Endpointer(LevelVad(), self.options),
            WindowPerCommit(),
            BargeIn(self.options),
            preroll_ms=self.options.preroll_ms,
            trace=trace,
            clock=self.clock,
        )
        mind = None
        if (dialogue := self.dialogue) is not None:
            shared = {
                "device": self.device,
                "outbox": outbox,
                "health": self.health,
                "trace": trace,
                "clock": self.clock,
            }
            giver = Giver(self.voice, listened=live and self.options.barge_in, **shared)
            mind = Mind(lambda: dialogue, giver, options=LlmOptions(), **shared)
        return Conversation(
            ear,
            mind,
            outbox=outbox,
            device=self.device,
            health=self.health,
            lateness=self.lateness,
            trace=trace,
            clock=self.clock,
            live=live,
        )

    async def run(self, audio: list[AudioChunk] | np.ndarray, *, live: bool = False) -> list[Event]:
        """Feed all of it, collect all events."""
        if isinstance(audio, np.ndarray):
            audio = chunks(audio)
        async with self.open(live=live) as talk:
            for chunk in audio:
                await talk.push(chunk)
            await talk.finish()
            return [event async for event in talk]

    def with_options(self, **changes: object) -> Stand:
        return replace(self, options=replace(self.options, **changes))
