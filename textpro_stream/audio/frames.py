"""Audio cut in any way -> the frame grid on which a conversation moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import FRAME, AudioChunk


class Framer:
    """Chunks of any size -> frames of exactly `FRAME` samples, at multiples of `FRAME`.

    A gap between chunks (audio that a device dropped) becomes silence, so that what follows keeps
    its place in time. The last frame is filled up with silence: every later stage sees whole
    frames only, whichever way the audio was cut.
    """

    def __init__(self) -> None:
        self._parts: list[NDArray[np.float32]] = []
        self._held = 0
        self._end = 0  # of all audio taken

    @property
    def end(self) -> int:
        """Samples taken so far; the last frame may reach up to `FRAME - 1` further."""
        return self._end

    def push(self, chunk: AudioChunk) -> list[AudioChunk]:
        """Take a chunk that does not begin before the last one ended."""
        assert chunk.start >= self._end, "chunks run forward"
        if chunk.start > self._end:
            self._hold(np.zeros(chunk.start - self._end, np.float32))
        self._hold(chunk.samples)
        return self._cut(self._held // FRAME)

    def finish(self) -> list[AudioChunk]:
        """Give the last, filled frame, if samples are left."""
        missing = -self._held % FRAME
        frames = []
        if missing:
            end = self._end
            self._hold(np.zeros(missing, np.float32))
            frames = self._cut(1)
            self._end = end
        return frames

    def _hold(self, samples: NDArray[np.float32]) -> None:
        self._parts.append(samples)
        self._held += len(samples)
        self._end += len(samples)

    def _cut(self, n_frames: int) -> list[AudioChunk]:
        if n_frames == 0:
            return []
        held = np.concatenate(self._parts)
        first = self._end - self._held
        whole = n_frames * FRAME
        self._parts = [held[whole:].copy()]  # a copy, so that the rest does not pin the whole
        self._held -= whole
        return [AudioChunk(held[i : i + FRAME], first + i) for i in range(0, whole, FRAME)]
