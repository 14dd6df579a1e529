"""Read a conversation to its end: show its events, keep its audio, know how it went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from textpro_stream.cli.notices import tell
from textpro_stream.cli.outlet import ReplyWav
from textpro_stream.errors import AudioFormatError
from textpro_stream.events import Failed, Finished, ReplyAudio
from textpro_stream.pipeline import Conversation
from textpro_stream.ports import Report

Outcome = Literal["fine", "failed", "bad input"]


async def follow(
    talk: Conversation,
    report: Report,
    wav: ReplyWav,
    hint: Callable[[int], str | None] | None = None,
) -> Outcome:
    """Show every event of a conversation; say how it went.

    Args:
        talk: until its end.
        report: shows it.
        wav: keeps the reply's sound.
        hint: a line to say at the end, if any, told how many turns there were.
    """
    outcome: Outcome = "fine"
    async for event in talk:
        report.show(event)
        if isinstance(event, ReplyAudio):
            wav.write(event.chunk)
        elif isinstance(event, Failed):
            tell(event.message)
            outcome = "bad input" if event.code == AudioFormatError.code else "failed"
        elif isinstance(event, Finished) and hint is not None and outcome == "fine":
            line = hint(event.turns)
            if line is not None:
                tell(line)
    return outcome
