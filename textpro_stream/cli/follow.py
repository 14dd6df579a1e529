"""Read a conversation to its end: show its events, keep its audio, know how it went."""

from __future__ import annotations

from typing import Literal

from textpro_stream.cli.notices import tell
from textpro_stream.cli.outlet import ReplyWav
from textpro_stream.errors import AudioFormatError
from textpro_stream.events import Failed, ReplyAudio
from textpro_stream.pipeline import Conversation
from textpro_stream.ports import Report

Outcome = Literal["fine", "failed", "bad input"]


async def follow(talk: Conversation, report: Report, wav: ReplyWav) -> Outcome:
    """Show every event of a conversation; say how it went."""
    outcome: Outcome = "fine"
    async for event in talk:
        report.show(event)
        if isinstance(event, ReplyAudio):
            wav.write(event.chunk)
        elif isinstance(event, Failed):
            tell(event.message)
            outcome = "bad input" if event.code == AudioFormatError.code else "failed"
    return outcome
