"""Spoken replies -> a loudspeaker, and how much of them was heard."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from textpro_stream.audio.devices import BLOCK_MS, Samples, choose
from textpro_stream.audio.resample import Resampler
from textpro_stream.contracts import SpokenChunk

if TYPE_CHECKING:
    from textpro_stream.ports import AudioBackend

FADE_MS = 5  # at each edge of sound: without it, edges click
DUCKED = 0.25  # of full loudness, while somebody may be speaking over the reply


class Loudspeaker:
    """An open loudspeaker that plays one reply after the other.

    The device's thread takes what is queued, block by block. A queue that runs dry in the middle of
    a reply gives silence. Positions run along one line of samples at the device's rate: how many
    were queued, taken and heard, and where on it the present reply begins.

    Args:
        device: "" for the default, an index or a part of a name.
        backend: the machine's devices; PortAudio if not given.

    Raises:
        DeviceError: there is no such loudspeaker, or it cannot be opened.
    """

    def __init__(self, device: str = "", *, backend: AudioBackend | None = None) -> None:
        if backend is None:
            from textpro_stream.audio.portaudio import PortAudio

            backend = PortAudio()
        self.device = choose(backend.devices(), device, "loudspeaker")
        self.n_underruns = 0  # times that a reply went on too late
        self._fade = self.device.rate_hz * FADE_MS // 1000
        self._lock = threading.Lock()
        self._queue: deque[Samples] = deque()
        self._queued = self._taken = 0
        self._past = deque([0], maxlen=2)  # taken, after each block that is still on its way out
        self._begin = 0  # of the present reply
        self._given = 0  # samples of it that were queued, at the voice's rate
        self._rate_hz = self.device.rate_hz  # of its voice
        self._resampler: Resampler | None = None  # while more of it may come
        self._gain = self._target = 1.0
        self._silent = True  # what went out last ended in silence
        self._full = False  # the last block was filled to its end
        self._stream = backend.play(self.device, self._fill)
        with self._lock:
            blocks = round(1000 * self._stream.latency_s / BLOCK_MS)
            self._past = deque(self._past, maxlen=1 + max(1, blocks))

    @property
    def heard(self) -> int:
        """Samples of the present reply, at its voice's rate, that have left the loudspeaker."""
        with self._lock:
            if self._resampler is None and self._past[0] >= self._queued:
                return self._given  # the last sample, which rounding must not lose
            return self._in_reply(self._past[0])

    @property
    def playing(self) -> bool:
        """There is sound that was not heard yet."""
        with self._lock:
            return self._past[0] < self._queued

    def play(self, chunk: SpokenChunk) -> None:
        """Queue a chunk. One that starts at 0 begins a new reply, after what is still queued.

        A late chunk of a reply that was cleared is dropped.
        """
        with self._lock:
            if chunk.start == 0:
                self._end()
                self._begin, self._rate_hz = self._queued, chunk.rate_hz
                self._resampler = Resampler(chunk.rate_hz, self.device.rate_hz)
            if self._resampler is not None:
                self._given = chunk.start + len(chunk.samples)
                self._put(self._resampler.push(chunk.samples))

    def end(self) -> None:
        """The reply has no more chunks, so its last sound need not wait for them."""
        with self._lock:
            self._end()

    def clear(self) -> int:
        """Fall silent within one block; samples of the reply that will have been heard by then.

        At the voice's rate. Blocks that the device holds already still sound.
        """
        with self._lock:
            rest = np.concatenate([*self._queue, np.zeros(0, np.float32)])[: self._fade]
            self._queue.clear()
            self._queued = self._taken
            self._put(rest * np.linspace(1, 0, len(rest), dtype=np.float32))
            self._resampler = None
            self._given = self._in_reply(self._queued)
            return self._given

    def duck(self, ducked: bool) -> None:
        """Play quietly, or as before, from the next block on."""
        with self._lock:
            self._target = DUCKED if ducked else 1.0

    def close(self) -> None:
        """Stop at once."""
        self._stream.close()

    def _put(self, samples: Samples) -> None:
        if len(samples):
            self._queue.append(samples)
            self._queued += len(samples)

    def _end(self) -> None:
        if self._resampler is not None:
            self._put(self._resampler.finish())
            self._resampler = None

    def _in_reply(self, position: int) -> int:
        """A position on the line as samples of the present reply."""
        into = max(0, position - self._begin)
        return min(self._given, into * self._rate_hz // self.device.rate_hz)

    def _fill(self, block: Samples) -> None:
        """Called by the device's thread: fill a block of silence."""
        with self._lock:
            n = 0
            while self._queue and n < len(block):
                piece = self._queue.popleft()
                part = piece[: len(block) - n]
                block[n : n + len(part)] = part
                n += len(part)
                if len(part) < len(piece):
                    self._queue.appendleft(piece[len(part) :])
            self._taken += n
            self._past.append(self._taken)
            late = n < len(block) and self._full and self._resampler is not None
            self.n_underruns += late
            self._full = n == len(block)
            # A queue that is dry may stay so: the block that empties it ends softly already.
            rises, self._silent = self._silent, not self._queue
            block[:n] *= np.linspace(self._gain, self._target, n, dtype=np.float32)
            self._gain = self._target
            falls = self._silent
        edge = min(self._fade, n)
        ramp = np.linspace(0, 1, edge, dtype=np.float32)
        if rises:
            block[:edge] *= ramp
        if falls:
            block[n - edge : n] *= ramp[::-1]
