"""A sound card made of arrays: tests say what is spoken into it and take what it plays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from textpro_stream.audio.devices import Capture, Device, Playback
from textpro_stream.errors import DeviceError

BOTH = frozenset({"microphone", "loudspeaker"})


@dataclass
class FakeStream:
    latency_s: float = 0.0
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeCard:
    """The door of `devices`, with one microphone and loudspeaker unless told otherwise."""

    rate_hz: int = 48_000
    latency_s: float = 0.0
    entries: Sequence[Device] | None = None
    streams: list[FakeStream] = field(default_factory=list)
    say: Callable[[NDArray[np.float32], bool], None] | None = None
    unplug: Callable[[], None] | None = None
    fill: Playback | None = None
    busy: bool = False

    def devices(self) -> Sequence[Device]:
        if self.entries is not None:
            return self.entries
        return [Device(0, "Fake Card", 1, 1, self.rate_hz, BOTH)]

    def capture(self, device: Device, callback: Capture, ended: Callable[[], None]) -> FakeStream:
        if self.busy:
            raise DeviceError(f"{device.name}: cannot be opened (busy); choose another")
        self.say, self.unplug = callback, ended
        return self._stream()

    def play(self, device: Device, callback: Playback) -> FakeStream:
        self.fill = callback
        return self._stream()

    def pull(self, n_blocks: int = 1) -> NDArray[np.float32]:
        """What comes out of the loudspeaker next, in blocks of 20 ms."""
        assert self.fill is not None
        blocks = []
        for _ in range(n_blocks):
            block = np.zeros(self.rate_hz // 50, np.float32)
            self.fill(block)
            blocks.append(block)
        return np.concatenate(blocks)

    def _stream(self) -> FakeStream:
        self.streams.append(FakeStream(self.latency_s))
        return self.streams[-1]
