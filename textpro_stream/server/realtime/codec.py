"""Audio between the wire and the conversation: formats, rates, and how deltas are cut.

Both directions carry their state from piece to piece, so cutting differently changes nothing.
Positions agree: sample n of the decoded audio was said n / 16 ms after the stream began, whatever
the filter still holds back.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from textpro_stream.audio.pcm import decode_pcm16, encode_pcm16
from textpro_stream.audio.resample import Resampler
from textpro_stream.contracts import SAMPLE_RATE

Samples = NDArray[np.float32]

RATES = {"audio/pcm": 24_000, "audio/pcmu": 8_000, "audio/pcma": 8_000}  # Hz
WIDTHS = {"audio/pcm": 2, "audio/pcmu": 1, "audio/pcma": 1}  # bytes per sample
DELTA_MS = 100  # of audio in one delta at most, ...
SHORTEST_MS = 40  # ... and at least, but for the last one


class Decoder:
    """Bytes of a client -> samples at 16 kHz.

    Args:
        kind: of `RATES`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._rest = b""  # half a sample
        self._resampler = Resampler(RATES[kind])

    def push(self, data: bytes) -> Samples:
        """Take bytes, cut anywhere; give (n,) samples."""
        data = self._rest + data
        whole = len(data) - len(data) % WIDTHS[self.kind]
        data, self._rest = data[:whole], data[whole:]
        return self._resampler.push(_decode(self.kind, data))

    def flush(self) -> Samples:
        """What the filter holds back. What is pushed next follows it without a gap."""
        rest = self._resampler.finish()
        self._resampler = Resampler(RATES[self.kind])
        return rest


class Encoder:
    """Samples of a voice -> deltas for a client.

    Args:
        kind: of `RATES`.
        rate_hz: of the voice.
    """

    def __init__(self, kind: str, rate_hz: int) -> None:
        self._kind = kind
        wire_hz = RATES[kind]
        self._resampler = None if rate_hz == wire_hz else Resampler(rate_hz, wire_hz)
        self._longest = wire_hz * DELTA_MS // 1000
        self._shortest = wire_hz * SHORTEST_MS // 1000
        self._open = np.zeros(0, np.float32)
        self.sent = 0  # samples at the wire's rate

    @property
    def sent_ms(self) -> int:
        """Milliseconds given out."""
        return self.sent * 1000 // RATES[self._kind]

    def push(self, samples: Samples) -> list[bytes]:
        """Take (n,) samples; give the deltas that are full."""
        if self._resampler is not None:
            samples = self._resampler.push(samples)
        self._open = np.concatenate([self._open, samples])
        return list(self._cut(self._shortest))

    def finish(self) -> list[bytes]:
        """The rest."""
        if self._resampler is not None:
            self._open = np.concatenate([self._open, self._resampler.finish()])
        return list(self._cut(1))

    def _cut(self, shortest: int) -> Iterator[bytes]:
        while len(self._open) >= shortest:
            piece, self._open = self._open[: self._longest], self._open[self._longest :]
            self.sent += len(piece)
            yield _encode(self._kind, piece)


def duration_ms(kind: str, n_bytes: int) -> int:
    """Whole milliseconds that so many bytes last."""
    return n_bytes * 1000 // (RATES[kind] * WIDTHS[kind])


def milliseconds(position: int) -> int:
    """A position at 16 kHz on the wire's scale."""
    return max(0, position * 1000 // SAMPLE_RATE)


def _decode(kind: str, data: bytes) -> Samples:
    if kind != "audio/pcm":
        data = _LINEAR[kind][np.frombuffer(data, np.uint8)].astype("<i2").tobytes()
    return decode_pcm16(data)


def _encode(kind: str, samples: Samples) -> bytes:
    pcm = encode_pcm16(samples)
    if kind == "audio/pcm":
        return pcm
    return _CODES[kind][np.frombuffer(pcm, "<i2").astype(np.int32) + 32768].tobytes()


def _mu_law() -> NDArray[np.int16]:
    """Code -> value, ITU-T G.711: sign, three bits of exponent, four of mantissa, all inverted."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    size = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int16)


def _a_law() -> NDArray[np.int16]:
    """Code -> value, ITU-T G.711: the same fields, every second bit inverted."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = code >> 4 & 7, (code & 0x0F) << 4
    size = np.where(exponent == 0, mantissa + 8, mantissa + 0x108 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, size, -size).astype(np.int16)


def _nearest(linear: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Value + 32768 -> the code that comes closest."""
    order = np.argsort(linear, kind="stable")
    values = linear[order].astype(np.int32)
    middles = (values[1:] + values[:-1]) // 2
    return order[np.searchsorted(middles, np.arange(-32768, 32768), side="left")].astype(np.uint8)


_LINEAR = {"audio/pcmu": _mu_law(), "audio/pcma": _a_law()}
_CODES = {kind: _nearest(linear) for kind, linear in _LINEAR.items()}
