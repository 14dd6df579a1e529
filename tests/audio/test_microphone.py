from __future__ import annotations

import asyncio
import itertools
import threading

import numpy as np
import pytest
from fake_devices import FakeCard
from numpy.typing import NDArray

from textpro_stream.audio.microphone import HELD_MS, Microphone
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.errors import DeviceError


def blocks(rate_hz: int, seconds: float) -> list[NDArray[np.float32]]:
    time = np.arange(int(rate_hz * seconds)) / rate_hz
    sound = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    return np.split(sound, range(rate_hz // 50, len(sound), rate_hz // 50))


def joined(chunks: list[AudioChunk]) -> NDArray[np.float32]:
    assert chunks[0].start == 0
    assert all(b.start == a.end for a, b in itertools.pairwise(chunks))
    return np.concatenate([chunk.samples for chunk in chunks])


async def everything(microphone: Microphone) -> list[AudioChunk]:
    microphone.close()
    return [chunk async for chunk in microphone.chunks()]


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
async def test_what_is_spoken_comes_at_16_khz(rate_hz: int) -> None:
    card = FakeCard(rate_hz)
    microphone = Microphone(backend=card)
    assert card.say is not None
    for block in blocks(rate_hz, 1):
        card.say(block, False)
    samples = joined(await everything(microphone))
    assert 0.95 * SAMPLE_RATE < len(samples) <= SAMPLE_RATE  # the resampler is 20 ms behind
    time = np.arange(len(samples)) / SAMPLE_RATE
    expected = 0.5 * np.sin(2 * np.pi * 440 * time)
    assert np.allclose(samples[500:-500], expected[500:-500], atol=2e-3)
    assert microphone.n_dropped == 0


async def test_chunks_come_while_the_devices_thread_delivers() -> None:
    card = FakeCard(16_000)
    microphone = Microphone(backend=card)
    chunks = microphone.chunks()
    for block in blocks(16_000, 0.2):
        assert card.say is not None
        thread = threading.Thread(target=card.say, args=(block, False))
        thread.start()
        thread.join()
        chunk = await anext(chunks)
        assert np.array_equal(chunk.samples, block)
    microphone.close()
    assert [chunk async for chunk in chunks] == []
    assert card.streams[0].closed


async def test_the_callback_copies_because_the_device_reuses_its_buffer() -> None:
    card = FakeCard(16_000)
    microphone = Microphone(backend=card)
    assert card.say is not None
    buffer = np.full(320, 0.5, np.float32)
    card.say(buffer, False)
    buffer[:] = 0
    assert joined(await everything(microphone)).max() == 0.5


async def test_the_oldest_audio_goes_and_the_clock_stays_right() -> None:
    card = FakeCard(48_000)
    microphone = Microphone(backend=card)
    assert card.say is not None
    seconds = HELD_MS / 1000 + 1
    for block in blocks(48_000, seconds):
        card.say(block, False)
    samples = joined(await everything(microphone))
    assert len(samples) == pytest.approx(seconds * SAMPLE_RATE, abs=0.05 * SAMPLE_RATE)
    assert microphone.n_dropped == SAMPLE_RATE
    assert np.abs(samples[: SAMPLE_RATE - 500]).max() < 1e-3
    assert np.abs(samples[SAMPLE_RATE + 500 :]).max() == pytest.approx(0.5, abs=0.01)


async def test_overflows_of_the_device_are_counted() -> None:
    card = FakeCard()
    microphone = Microphone(backend=card)
    assert card.say is not None
    for lost in (False, True, False, True):
        card.say(np.zeros(960, np.float32), lost)
    assert microphone.n_overflows == 2
    microphone.close()


async def test_a_microphone_that_is_pulled_out_is_one_line() -> None:
    card = FakeCard(16_000)
    microphone = Microphone(backend=card)
    chunks = microphone.chunks()
    pending = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    assert card.unplug is not None
    card.unplug()
    with pytest.raises(DeviceError, match="Fake Card: the microphone went away"):
        await pending
    microphone.close()


async def test_a_busy_microphone_is_one_line() -> None:
    with pytest.raises(DeviceError, match="busy"):
        Microphone(backend=FakeCard(busy=True))


def test_a_late_callback_of_an_ended_loop_does_no_harm() -> None:
    card = FakeCard()

    async def session() -> Microphone:
        return Microphone(backend=card)

    microphone = asyncio.run(session())
    assert card.say is not None
    card.say(np.zeros(960, np.float32), False)
    microphone.close()
