"""One rate to another, push by push."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from textpro_stream.contracts import SAMPLE_RATE


class Resampler:
    """Mono audio of any rate to 16 kHz (or another), carrying its state from push to push.

    Output lags by 10 to 120 ms (the lower the rate, the longer), which `finish` gives out.
    """

    def __init__(self, rate_hz: int, to_hz: int = SAMPLE_RATE) -> None:
        self._stream = soxr.ResampleStream(rate_hz, to_hz, 1, dtype="float32")

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take (n,) samples; give what they complete, within full scale."""
        return _within_scale(self._stream.resample_chunk(samples))

    def finish(self) -> NDArray[np.float32]:
        """Give the rest: together `n * to_hz / rate_hz` samples have come out."""
        return _within_scale(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))


def _within_scale(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clip: at steep edges the filter overshoots full scale by a few percent."""
    return np.clip(samples, np.float32(-1), np.float32(1))
