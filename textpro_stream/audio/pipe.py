"""A pipe of any content -> mono 16 kHz chunks: its own marks count, then what was declared."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncIterator

from textpro_stream.audio.containers import HEAD, READ, container, unreadable
from textpro_stream.audio.files import FileSource
from textpro_stream.audio.pcm import PcmDecoder, read_bytes
from textpro_stream.audio.plausible import looks_like
from textpro_stream.audio.wav_stream import NotLinear, WavDecoder
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.errors import AudioFormatError

log = logging.getLogger(__name__)

MARK_BYTES = 16  # enough for every mark but an MP3 frame's
JUDGED_S = 2  # seconds of raw audio after which its format is judged, for whom it sounds wrong


async def read_pipe(descriptor: int, rate_hz: int = SAMPLE_RATE) -> AsyncIterator[AudioChunk]:
    """Read what comes until the other side closes.

    A WAV is read as it comes, whatever `rate_hz` says; another container when it is complete; the
    rest is raw PCM16, mono, little-endian.

    Args:
        descriptor: a readable file descriptor, such as that of standard input. It stays open.
        rate_hz: of raw audio.

    Raises:
        AudioFormatError: the rate is impossible, nothing came, or a container that is not read.
    """
    raw = PcmDecoder(rate_hz)  # an impossible rate is refused before anything is waited for
    source = read_bytes(descriptor)
    head = b""
    async for data in source:
        head += data
        if len(head) >= (HEAD if head[:1] == b"\xff" else MARK_BYTES):
            break
    name = container(head)
    if name is not None and name not in READ:
        raise AudioFormatError(f"-: not audio that can be read: {unreadable(head)}", path="-")
    if name == "WAV":
        chunks = _wav(head, source)
    elif name is not None:
        chunks = _whole(name, head, source)
    else:
        chunks = _raw(raw, head, source, rate_hz)
    heard = False
    async for chunk in chunks:
        heard = True
        yield chunk
    if not heard:
        raise AudioFormatError(
            "-: nothing came through the pipe; pipe a WAV or PCM16 into it, for example from"
            " arecord -f S16_LE -r 16000",
            path="-",
        )


async def _raw(
    decoder: PcmDecoder, head: bytes, source: AsyncIterator[bytes], rate_hz: int
) -> AsyncIterator[AudioChunk]:
    judged: bytearray | None = bytearray(head)
    for chunk in decoder.push(head):
        yield chunk
    async for data in source:
        if judged is not None:
            judged += data
            if len(judged) >= JUDGED_S * rate_hz * 2:
                judged = _judge(judged)
        for chunk in decoder.push(data):
            yield chunk
    if judged is not None:
        _judge(judged)
    for chunk in decoder.finish():
        yield chunk


def _judge(data: bytearray) -> bytearray | None:
    """Say once what raw bytes look like instead; None: nothing is to be waited for any more."""
    if not any(data):
        return bytearray()  # silence tells nothing
    what = looks_like(bytes(data))
    if what is not None:
        log.warning(
            "-: these bytes look like %s, not like 16-bit little-endian mono; say -f s16le -ac 1 to"
            " ffmpeg, or pipe a WAV, whose header says what it holds",
            what,
        )
    return None


async def _wav(head: bytes, source: AsyncIterator[bytes]) -> AsyncIterator[AudioChunk]:
    decoder, so_far = WavDecoder(), head
    try:
        for chunk in decoder.push(head):
            yield chunk
        async for data in source:
            so_far = b"" if so_far is None else so_far + data
            for chunk in decoder.push(data):
                so_far = b""
                yield chunk
        for chunk in decoder.finish():
            yield chunk
    except NotLinear:
        async for chunk in _whole("WAV", so_far, source):
            yield chunk


async def _whole(name: str, head: bytes, source: AsyncIterator[bytes]) -> AsyncIterator[AudioChunk]:
    """Keep it in a file without a name until it is complete."""
    with tempfile.TemporaryFile() as file:
        try:
            file.write(head)
            async for data in source:
                file.write(data)
            file.flush()
        except OSError as error:
            raise AudioFormatError(
                f"-: {name} from a pipe is kept in {tempfile.gettempdir()} until it is complete,"
                f" which failed ({error.strerror}); make room there, or pipe a WAV",
                path="-",
            ) from None
        for chunk in FileSource("-", descriptor=os.dup(file.fileno())).chunks():
            await asyncio.sleep(0)
            yield chunk
