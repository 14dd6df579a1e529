"""Turns and replies of a dialogue, in a line each."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

from textpro_stream.contracts import (
    GenerationEnd,
    OpenTurn,
    Playout,
    ReplyOptions,
    TextDelta,
    TokenSpan,
    ToolCall,
)
from textpro_stream.ports import Dialogue

PLAIN = ReplyOptions()


@dataclass(frozen=True)
class Drawn:
    """A whole reply."""

    text: str
    calls: tuple[ToolCall, ...]
    end: GenerationEnd | None  # None: it was void


def turn(number: int, text: str = "", *, over: bool = False) -> OpenTurn:
    spans = (TokenSpan((), text, 0, 0, 0.0, None),) if text else ()
    return OpenTurn(number, spans, over=over)


async def draw(dialogue: Dialogue, number: int = 1, options: ReplyOptions = PLAIN) -> Drawn:
    text, calls, end = "", [], None
    async with aclosing(dialogue.reply(number, options)) as reply:
        async for delta in reply:
            match delta:
                case TextDelta(text=piece):
                    text += piece
                case ToolCall():
                    calls.append(delta)
                case GenerationEnd():
                    end = delta
    return Drawn(text, tuple(calls), end)


async def ask(dialogue: Dialogue, number: int, text: str, heard: int | None = None) -> Drawn:
    """A turn from its words to what is remembered of it."""
    await dialogue.follow(turn(number, text, over=True))
    drawn = await draw(dialogue, number)
    await dialogue.close_turn(Playout(heard))
    return drawn
