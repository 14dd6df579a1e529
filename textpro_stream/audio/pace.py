"""When recorded audio is handed over: as it would have been spoken, or as fast as it is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from textpro_stream.audio.frames import Framer
from textpro_stream.audio.level import LevelMeter
from textpro_stream.contracts import AudioChunk, seconds
from textpro_stream.ports import Clock


async def paced(chunks: Iterable[AudioChunk], clock: Clock) -> AsyncIterator[AudioChunk]:
    """Hand over frames like a microphone: none before its last sample would have been spoken.

    Deadlines count from the first request, so a consumer that falls behind catches up and no
    delay adds up.
    """
    begin = clock.now()
    async for frame in fast(chunks):
        await clock.sleep_until(begin + seconds(frame.end))
        yield frame


async def fast(chunks: Iterable[AudioChunk]) -> AsyncIterator[AudioChunk]:
    """Hand over frames as fast as they are taken, letting other tasks run between them."""
    framer = Framer()
    for chunk in chunks:
        for frame in framer.push(chunk):
            await asyncio.sleep(0)
            yield frame
    for frame in framer.finish():
        yield frame


async def metered(
    chunks: AsyncIterator[AudioChunk], meter: LevelMeter
) -> AsyncIterator[AudioChunk]:
    """Hand over chunks as they come, and measure how loud they are."""
    async for chunk in chunks:
        meter.push(chunk.samples)
        yield chunk
