"""A WAV that comes through a pipe -> mono 16 kHz chunks, as its bytes come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textpro_stream.audio.containers import UNKNOWN_LENGTH, is_chunk
from textpro_stream.audio.mixing import Mixer
from textpro_stream.audio.resample import Resampler
from textpro_stream.contracts import AudioChunk
from textpro_stream.errors import AudioFormatError

LONGEST_HEAD = 1_048_576  # bytes: pictures may stand before the audio, but not an endless one
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # format tags


class NotLinear(Exception):
    """The WAV is compressed: it can be read when it is complete."""


@dataclass(frozen=True, slots=True)
class _Format:
    tag: int
    channels: int
    rate_hz: int
    bits: int

    @property
    def width(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * self.bits // 8


class WavDecoder:
    """Bytes of a WAV, cut anywhere -> 16 kHz chunks.

    What follows the audio (a list of titles) is left out; another WAV behind it is played as well.
    """

    def __init__(self) -> None:
        self._bytes = b""
        self._format: _Format | None = None  # of the audio that comes; None: in a header
        self._left: int | None = None  # bytes of audio to come; None: until the end
        self._mixer: Mixer | None = None
        self._resampler: Resampler | None = None
        self._start = 0
        self._over = False

    def push(self, data: bytes) -> list[AudioChunk]:
        """Take any number of bytes; give the samples they complete.

        Raises:
            NotLinear: it holds something else than PCM or floats.
            AudioFormatError: no audio begins in it.
        """
        self._bytes += data
        chunks: list[AudioChunk] = []
        while not self._over:
            if self._format is None and not self._read_head():
                break
            chunks += self._read_audio()
            if self._left != 0:
                break
            chunks += self._close()
        if self._over:
            self._bytes = b""
        return chunks

    def finish(self) -> list[AudioChunk]:
        """Give the rest. Half a sample at the end is dropped."""
        return self._close() if self._format is not None else []

    def _read_audio(self) -> list[AudioChunk]:
        form = self._format
        assert form is not None
        assert self._mixer is not None
        n_bytes = len(self._bytes) if self._left is None else min(self._left, len(self._bytes))
        whole = n_bytes - n_bytes % form.width
        taken = n_bytes if self._left == n_bytes else whole  # half a sample at the very end
        audio, self._bytes = self._bytes[:whole], self._bytes[taken:]
        if self._left is not None:
            self._left -= taken
        samples = _decode(form, audio).reshape(-1, form.channels)
        return self._chunk(self._mixer.push(samples), last=False)

    def _close(self) -> list[AudioChunk]:
        assert self._mixer is not None
        chunks = self._chunk(self._mixer.finish(), last=True)
        self._format = None
        return chunks

    def _chunk(self, samples: NDArray[np.float32], *, last: bool) -> list[AudioChunk]:
        if self._resampler is not None:
            samples = self._resampler.push(samples)
            if last:
                samples = np.concatenate([samples, self._resampler.finish()])
        if len(samples) == 0:
            return []
        chunk = AudioChunk(samples, self._start)
        self._start = chunk.end
        return [chunk]

    def _read_head(self) -> bool:
        """Read chunks up to the audio; False: more bytes have to come."""
        form: _Format | None = None
        at = 0
        while len(self._bytes) >= at + 12:
            if self._bytes[at : at + 4] in (b"RIFF", b"RF64"):
                at += 12
                continue
            name = self._bytes[at : at + 4]
            length = int.from_bytes(self._bytes[at + 4 : at + 8], "little")
            body = at + 8
            if name == b"data":
                if form is None:
                    break
                unknown = length == 0 or length >= UNKNOWN_LENGTH
                self._begin(form, None if unknown else length)
                self._bytes = self._bytes[body:]
                return True
            if self._start and not is_chunk(self._bytes[at : at + 8], LONGEST_HEAD):
                self._over = True  # something behind the audio that is none
                return False
            if len(self._bytes) < body + min(length, 40):
                return False
            if name == b"fmt ":
                form = _read_format(self._bytes[body : body + length])
            at = body + length + (length & 1)
            if at > LONGEST_HEAD:
                break
            if self._start and form is None:  # behind the audio: need not be looked at again
                if len(self._bytes) < at:
                    return False
                self._bytes, at = self._bytes[at:], 0
        else:
            return False
        if self._start:
            self._over = True
            return False
        raise AudioFormatError("-: a WAV without audio came through the pipe; send it again")

    def _begin(self, form: _Format, left: int | None) -> None:
        self._format, self._left = form, left
        self._mixer = Mixer(form.channels, form.rate_hz)
        self._resampler = Resampler(form.rate_hz) if form.rate_hz != 16_000 else None


def _read_format(data: bytes) -> _Format:
    tag = int.from_bytes(data[0:2], "little")
    if tag == EXTENSIBLE and len(data) >= 26:
        tag = int.from_bytes(data[24:26], "little")
    channels, rate_hz = int.from_bytes(data[2:4], "little"), int.from_bytes(data[4:8], "little")
    bits = int.from_bytes(data[14:16], "little")
    if (tag, bits) not in DECODERS:
        raise NotLinear
    if not channels or not 1_000 <= rate_hz <= 768_000:
        raise AudioFormatError(
            f"-: the WAV in the pipe declares {channels} channels at {rate_hz} Hz; send it again"
        )
    return _Format(tag, channels, rate_hz, bits)


def _decode(form: _Format, data: bytes) -> NDArray[np.float32]:
    """(n,) samples of all channels in turn, full scale [-1, 1]."""
    if form.bits == 24:  # no such type: the upper three bytes of four
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        values = wide.view("<i4")[:, 0]
    else:
        values = np.frombuffer(data, DECODERS[form.tag, form.bits])
    if form.tag == FLOAT:
        return np.clip(np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0), -1, 1)
    if form.bits == 8:  # the only unsigned one
        return (values.astype(np.float32) - 128) / np.float32(128)
    return values.astype(np.float32) / np.float32(2 ** (31 if form.bits == 24 else form.bits - 1))


DECODERS = {
    (PCM, 8): "u1",
    (PCM, 16): "<i2",
    (PCM, 24): "<i4",
    (PCM, 32): "<i4",
    (FLOAT, 32): "<f4",
    (FLOAT, 64): "<f8",
}
