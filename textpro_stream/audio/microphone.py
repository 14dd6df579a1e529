"""A microphone -> mono 16 kHz chunks, live."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from textpro_stream.audio.devices import BLOCK_MS, Samples, choose
from textpro_stream.audio.resample import Resampler
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.errors import DeviceError

if TYPE_CHECKING:
    from textpro_stream.ports import AudioBackend

HELD_MS = 2_000  # of audio waiting to be taken; then the oldest goes


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    samples: Samples
    start: int  # at the device's rate


class Microphone:
    """An open microphone.

    The device's thread only copies. Audio that nobody takes in time is dropped, oldest first, and
    counted; silence of the same length stands in its place, so that the audio clock stays right.

    Args:
        device: "" for the default, an index or a part of a name.
        backend: the machine's devices; PortAudio if not given.

    Raises:
        DeviceError: there is no such microphone, or it cannot be opened.
    """

    def __init__(self, device: str = "", *, backend: AudioBackend | None = None) -> None:
        if backend is None:
            from textpro_stream.audio.portaudio import PortAudio

            backend = PortAudio()
        self.device = choose(backend.devices(), device, "microphone")
        self.n_overflows = 0  # times that the device lost audio before we saw it
        self.n_dropped = 0  # samples at 16 kHz that were not taken in time
        self._blocks: deque[_Block] = deque(maxlen=HELD_MS // BLOCK_MS)  # drops the oldest itself
        self._end = 0  # at the device's rate
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._closed = self._lost = False
        self._stream = backend.capture(self.device, self._capture, self._gone)

    async def chunks(self) -> AsyncIterator[AudioChunk]:
        """Give what is heard, until the microphone is closed.

        Raises:
            DeviceError: the microphone went away.
        """
        resampler, taken, start = Resampler(self.device.rate_hz), 0, 0
        while True:
            while self._blocks:
                block = self._blocks.popleft()
                samples = block.samples
                if missing := block.start - taken:
                    self.n_dropped += missing * SAMPLE_RATE // self.device.rate_hz
                    samples = np.concatenate([np.zeros(missing, np.float32), samples])
                taken = block.start + len(block.samples)
                chunk = AudioChunk(resampler.push(samples), start)
                if start != chunk.end:
                    start = chunk.end
                    yield chunk
            if self._closed:
                return
            if self._lost:
                raise DeviceError(f"{self.device.name}: the microphone went away; plug it in again")
            await self._news.wait()
            self._news.clear()

    def close(self) -> None:
        """Stop listening; `chunks` gives what it has and ends."""
        if not self._closed:
            self._closed = True
            self._stream.close()
            self._news.set()

    def _capture(self, samples: Samples, overflow: bool) -> None:
        """Called by the device's thread."""
        self.n_overflows += overflow
        self._blocks.append(_Block(samples.copy(), self._end))
        self._end += len(samples)
        self._wake()

    def _gone(self) -> None:
        """Called by the device's thread."""
        self._lost = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._news.set)
