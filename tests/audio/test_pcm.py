from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.audio.pcm import PcmDecoder
from textpro_stream.audio.pipe import read_pipe
from textpro_stream.contracts import AudioChunk
from textpro_stream.errors import AudioFormatError

PCM = np.random.default_rng(1).integers(-32_768, 32_768, 4_000).astype("<i2")


def joined(chunks: list[AudioChunk]) -> np.ndarray:
    for before, after in itertools.pairwise(chunks):
        assert after.start == before.end
    return np.concatenate([chunk.samples for chunk in chunks])


@given(cuts=st.lists(st.integers(0, 8_000), max_size=12), rate_hz=st.sampled_from([16_000, 8_000]))
def test_bytes_may_be_cut_anywhere(cuts: list[int], rate_hz: int) -> None:
    whole = PcmDecoder(rate_hz)
    expected = joined(whole.push(PCM.tobytes()) + whole.finish())
    decoder, chunks = PcmDecoder(rate_hz), []
    edges = [0, *sorted(cuts), 8_000]
    for first, last in itertools.pairwise(edges):
        chunks += decoder.push(PCM.tobytes()[first:last])
    chunks += decoder.finish()
    assert np.array_equal(joined(chunks), expected)
    if rate_hz == 16_000:
        assert np.array_equal(expected, PCM / np.float32(32_768))


@pytest.mark.parametrize("rate_hz", [0, -16_000, 10_000_000])
def test_an_impossible_rate_is_refused(rate_hz: int) -> None:
    with pytest.raises(AudioFormatError, match="--rate"):
        PcmDecoder(rate_hz)


async def test_a_pipe_is_read_as_it_fills() -> None:
    reader, writer = os.pipe()
    chunks = read_pipe(reader)
    data = PCM.tobytes()
    try:
        os.write(writer, data[:1_001])
        first = await anext(chunks)
        assert (first.start, first.end) == (0, 500)
        # With nothing in the pipe, others go on and nothing arrives.
        pending = asyncio.ensure_future(anext(chunks))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not pending.done()
        os.write(writer, data[1_001:])
        second = await pending
        os.close(writer)
        rest = [chunk async for chunk in chunks]
        assert np.array_equal(joined([first, second, *rest]), PCM / np.float32(32_768))
    finally:
        os.close(reader)


async def test_reading_can_be_cancelled_while_the_pipe_is_silent() -> None:
    reader, writer = os.pipe()
    task = asyncio.ensure_future(anext(read_pipe(reader)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not asyncio.get_running_loop().remove_reader(reader)
    os.close(reader)
    os.close(writer)


async def test_a_plain_file_can_stand_in_for_the_pipe(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(PCM.tobytes())
    descriptor = os.open(tmp_path / "a.raw", os.O_RDONLY)
    try:
        chunks = [chunk async for chunk in read_pipe(descriptor, 8_000)]
    finally:
        os.close(descriptor)
    assert chunks[-1].end == 8_000


@pytest.mark.parametrize("data", [b"", b"\x01"])
async def test_an_empty_pipe_is_an_error(data: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    try:
        with pytest.raises(AudioFormatError, match="nothing came"):
            async for _ in read_pipe(reader):
                pass
    finally:
        os.close(reader)
