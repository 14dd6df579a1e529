"""A conversation of whose LLM only the prompt is wanted: what it has read when it is to reply.

It reads along as always, words committed and drafts taken back; asked to reply, it says nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textpro_stream import ports
from textpro_stream.audio.pace import fast
from textpro_stream.config import LlmOptions
from textpro_stream.contracts import AudioChunk, Delta, GenerationEnd, ReplyOptions, has_words
from textpro_stream.errors import StageError
from textpro_stream.events import Failed, TurnEnded
from textpro_stream.llm.fusion import Row
from textpro_stream.llm.local import LocalDialogue, LocalEngine, Reply
from textpro_stream.pipeline import Engine
from textpro_stream.ports import Observer

Prompt = tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """What a conversation made of a question."""

    text: str  # of all its turns
    prompt: Prompt  # in front of the reply to the last of them; () if nothing was heard
    turns: int  # with words: more than one, and somebody was cut off


class PromptDialogue(LocalDialogue):
    """Keeps the prompt of the reply that it was asked for last, and replies nothing."""

    prompt: Prompt = ()

    async def reply(self, turn: int, options: ReplyOptions, /) -> AsyncGenerator[Delta, None]:
        """Nothing, after all has been read that would stand before it."""
        reading = await self._device.run(Reply(await self._opened(), turn, options))
        self.prompt = tuple(reading.generation.prompt.rows)
        yield GenerationEnd("stop")


class PromptEngine(LocalEngine):
    """Opens such dialogues; `last` is the one that was opened last."""

    last: PromptDialogue | None = None

    def open(self, options: LlmOptions, observer: Observer, /) -> ports.Dialogue:
        """One conversation's dialogue."""
        self.last = PromptDialogue(self.model, options, observer, self.device)
        return self.last


async def overhear(engine: Engine, audio: NDArray[np.float32]) -> Heard:
    """A question through a conversation: voice activity, words, pauses, endpoints, prompt.

    Args:
        engine: with a `PromptEngine`.
        audio: mono, 16 kHz.

    Raises:
        StageError: the conversation failed.
    """
    assert isinstance(engine.llm, PromptEngine)
    said: list[str] = []
    async with engine.open(live=False) as talk:
        talk.feed(fast([AudioChunk(audio, 0)]))
        async for event in talk:
            match event:
                case TurnEnded(transcript=text) if has_words(text):
                    said.append(text.strip())
                case Failed():
                    raise StageError(event.message)
                case _:
                    pass
    prompt = engine.llm.last.prompt if engine.llm.last is not None else ()
    return Heard(" ".join(said), prompt, len(said))
