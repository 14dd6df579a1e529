from __future__ import annotations

import numpy as np

from textpro_stream.audio.pace import fast, paced
from textpro_stream.clock import VirtualClock
from textpro_stream.contracts import FRAME, SAMPLE_RATE, AudioChunk

AUDIO = [AudioChunk(np.ones(1_500, np.float32), start) for start in range(0, 15_000, 1_500)]


async def test_no_sample_comes_before_it_was_spoken() -> None:
    clock = VirtualClock(start=100.0)
    times = {frame.end: clock.now() - 100 async for frame in paced(AUDIO, clock)}
    assert len(times) == -(-15_000 // FRAME)
    assert all(moment >= end / SAMPLE_RATE - 1e-9 for end, moment in times.items())
    assert all(moment <= end / SAMPLE_RATE + 1e-9 for end, moment in times.items())


async def test_a_late_consumer_catches_up() -> None:
    clock = VirtualClock()
    moments = []
    async for frame in paced(AUDIO, clock):
        if frame.start == 0:
            await clock.sleep_until(0.5)  # busy, half a second long
        moments.append(clock.now())
    assert moments[1] == 0.5
    assert moments[-1] == -(-15_000 // FRAME) * FRAME / SAMPLE_RATE


async def test_fast_gives_the_same_frames() -> None:
    clock = VirtualClock()
    slow = [frame async for frame in paced(AUDIO, clock)]
    quick = [frame async for frame in fast(AUDIO)]
    assert [frame.start for frame in slow] == [frame.start for frame in quick]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(slow, quick, strict=True))
