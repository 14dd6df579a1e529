"""A whole conversation over scripted neighbours; the pipeline itself is real."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scripted import (
    CALM,
    OPTIONS,
    LevelVad,
    Script,
    ScriptedDialogue,
    ScriptedVoice,
    WindowPerCommit,
    chunks,
)

from textpro_stream.clock import VirtualClock
from textpro_stream.commands import Announce, Respond
from textpro_stream.config import TurnOptions
from textpro_stream.contracts import AudioChunk, ReplyOptions, ToneReading
from textpro_stream.events import Event
from textpro_stream.pipeline.audience import Audience
from textpro_stream.pipeline.context import ConversationContext
from textpro_stream.pipeline.conversation import Conversation
from textpro_stream.pipeline.listener import Listener
from textpro_stream.pipeline.numbers import TurnNumbers
from textpro_stream.pipeline.outbox import Outbox
from textpro_stream.pipeline.recording import Recorder
from textpro_stream.pipeline.reply_player import ReplyPlayer
from textpro_stream.pipeline.responder import Responder
from textpro_stream.ports import Clock, Talk
from textpro_stream.runtime.device import DeviceThread
from textpro_stream.runtime.health import Health
from textpro_stream.runtime.lateness import Lateness
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn import BargeIn, Completeness, Endpointer


async def respond(talk: Talk, options: ReplyOptions | None = None) -> int:
    """Ask for a reply; gives the turn of its events."""
    turn = talk.next_turn()
    await talk.push(Respond(turn, options or ReplyOptions()))
    return turn


async def announce(talk: Talk, text: str) -> int:
    """Have something said; gives the turn of its events."""
    turn = talk.next_turn()
    await talk.push(Announce(turn, text))
    return turn


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
    tones: tuple[ToneReading, ToneReading] = (CALM, CALM)  # of a turn's draft, and of its end

    def open(
        self,
        *,
        live: bool = False,
        reserved: frozenset[int] = frozenset(),
        recorder: Recorder | None = None,
    ) -> Conversation:
        numbers = TurnNumbers(reserved)
        context = ConversationContext(
            device=self.device,
            outbox=Outbox(),
            audience=Audience(listens=live, may_interrupt=self.options.barge_in),
            health=self.health,
            lateness=self.lateness,
            trace=Trace(self.clock),
            clock=self.clock,
        )
        listener = Listener(
            self.script.open,
            Endpointer(LevelVad(), self.options),
            WindowPerCommit(*self.tones),
            BargeIn(self.options),
            end_of_turn=Completeness(),
            numbers=numbers,
            preroll_ms=self.options.preroll_ms,
            unclear=self.options.unclear,
            trace=context.trace,
            clock=context.clock,
        )
        responder = None
        if (dialogue := self.dialogue) is not None:
            dialogue.device = self.device
            responder = Responder(lambda: dialogue, ReplyPlayer(self.voice, context), context)
        return Conversation(
            listener, responder, context, numbers=numbers, live=live, recorder=recorder
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
