"""Raw PCM16 -> mono 16 kHz chunks; bytes of a pipe, without ever holding up the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray

from textpro_stream.audio.resample import Resampler
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.errors import AudioFormatError

READ_BYTES = 65_536  # a Linux pipe holds as much


def encode_pcm16(samples: NDArray[np.float32]) -> bytes:
    """Full-scale floats (n,) as PCM16 little-endian; what lies outside [-1, 1) is cut."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def decode_pcm16(data: bytes) -> NDArray[np.float32]:
    """PCM16 little-endian, whole samples, as full-scale floats (n,)."""
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


class PcmDecoder:
    """Bytes of signed 16-bit little-endian mono audio -> 16 kHz chunks, however they are cut.

    Args:
        rate_hz: of the bytes.

    Raises:
        AudioFormatError: the rate is impossible.
    """

    def __init__(self, rate_hz: int = SAMPLE_RATE) -> None:
        if not 1_000 <= rate_hz <= 768_000:
            raise AudioFormatError(
                f"{rate_hz} Hz is no rate of speech; give --rate between 1000 and 768000",
                rate_hz=rate_hz,
            )
        self._resampler = Resampler(rate_hz) if rate_hz != SAMPLE_RATE else None
        self._odd = b""  # half a sample, until its other byte comes
        self._start = 0

    def push(self, data: bytes) -> list[AudioChunk]:
        """Take any number of bytes; give the samples they complete."""
        data = self._odd + data
        whole = len(data) & ~1
        self._odd = data[whole:]
        samples = decode_pcm16(data[:whole])
        return self._chunk(self._resampler.push(samples) if self._resampler else samples)

    def finish(self) -> list[AudioChunk]:
        """Give the rest. Half a sample at the end is dropped."""
        return self._chunk(self._resampler.finish()) if self._resampler else []

    def _chunk(self, samples: NDArray[np.float32]) -> list[AudioChunk]:
        if len(samples) == 0:
            return []
        chunk = AudioChunk(samples, self._start)
        self._start = chunk.end
        return [chunk]


async def read_bytes(descriptor: int) -> AsyncIterator[bytes]:
    """Read a pipe until the other side closes, as bytes come.

    Cancelling is immediate, with no thread left behind.

    Args:
        descriptor: a readable file descriptor, such as that of standard input. It stays open.
    """
    while True:
        await _until_readable(descriptor)
        data = os.read(descriptor, READ_BYTES)
        if not data:
            return
        yield data


async def _until_readable(descriptor: int) -> None:
    """Return once reading would not wait.

    Watching ends before the read, because a watcher that goes on would announce the same bytes
    again and the next read would block.
    """
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, readable.set)
    except PermissionError:  # epoll refuses plain files, which are always readable
        await asyncio.sleep(0)
        return
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
