"""What comes through a pipe is what its own marks say."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import threading

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from textpro_stream.audio.pipe import read_pipe
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import AudioFormatError

Samples = NDArray[np.float32]


def tone(rate_hz: int, seconds: float = 1.0) -> Samples:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(
        np.float32
    )


def sound(kind: str, rate_hz: int, channels: int = 1, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    both = np.repeat(tone(rate_hz)[:, None], channels, 1)
    soundfile.write(buffer, both, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


async def piped(data: bytes, rate_hz: int = SAMPLE_RATE) -> Samples:
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data)

    feeder = threading.Thread(target=write)
    feeder.start()
    try:
        parts, end = [np.zeros(0, np.float32)], 0
        async for chunk in read_pipe(reader, rate_hz):
            assert chunk.start == end
            end = chunk.end
            parts.append(chunk.samples)
        return np.concatenate(parts)
    finally:
        os.close(reader)
        feeder.join()


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_U8"),
        ("WAV", "PCM_24"),
        ("WAV", "PCM_32"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAV", "ULAW"),
        ("WAV", "IMA_ADPCM"),
        ("WAVEX", "PCM_16"),
        ("FLAC", None),
        ("OGG", None),
        ("MP3", None),
        ("AIFF", None),
        ("AU", None),
        ("CAF", None),
    ],
)
async def test_a_container_is_read_by_its_own_header(kind: str, subtype: str | None) -> None:
    samples = await piped(sound(kind, 44_100, 2, subtype))
    assert len(samples) == pytest.approx(SAMPLE_RATE, abs=400)  # blocks are filled up
    middle = samples[2_000:14_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(12_000)))
    assert np.argmax(spectrum) * SAMPLE_RATE / 12_000 == pytest.approx(440, abs=2)
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, abs=0.02)


async def test_a_wav_is_heard_while_it_comes() -> None:
    reader, writer = os.pipe()
    data = bytearray(sound("WAV", SAMPLE_RATE))
    data[40:44] = b"\xff\xff\xff\xff"  # a recorder that cannot know when it will be stopped
    chunks = read_pipe(reader)
    try:
        os.write(writer, data[:8_044])
        first = await asyncio.wait_for(anext(chunks), 5)
        assert np.allclose(first.samples, tone(SAMPLE_RATE)[: len(first.samples)], atol=1e-3)
        assert len(first.samples) == 4_000
    finally:
        os.close(writer)
        await chunks.aclose()
        os.close(reader)


async def test_titles_behind_the_audio_are_not_played_and_a_second_wav_is() -> None:
    titles = b"LIST" + (26).to_bytes(4, "little") + b"INFOISFT\x0e\0\0\0Lavf59.27.100\0"
    one, other = sound("WAV", SAMPLE_RATE), sound("WAV", 8_000)
    assert len(await piped(one + titles)) == SAMPLE_RATE
    assert len(await piped(one + titles + other)) == 2 * SAMPLE_RATE


@pytest.mark.parametrize(
    ("form", "channels", "says"),
    [
        ("<i2", 2, "two channels"),
        (">i2", 1, "big-endian"),
        ("<f4", 1, "32-bit floats"),
        ("<i4", 1, "32-bit integers"),
        ("u1", 1, "8-bit"),
    ],
)
async def test_raw_audio_that_was_declared_wrong_is_told(
    form: str, channels: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.001, (SAMPLE_RATE, channels))
    samples = np.repeat(tone(SAMPLE_RATE)[:, None], channels, 1) + noise
    samples[SAMPLE_RATE // 3 :] = noise[SAMPLE_RATE // 3 :]  # speech has pauses
    scale = {"<i2": 32767, ">i2": 32767, "<f4": 1, "<i4": 2**31 - 1, "u1": 127}[form]
    data = (samples * scale + (128 if form == "u1" else 0)).astype(form).tobytes()
    with caplog.at_level(logging.WARNING):
        await piped(data)
    assert says in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        await piped((samples[:, 0] * 32767).astype("<i2").tobytes())
    assert not caplog.records


async def test_what_is_not_read_is_told_by_name() -> None:
    with pytest.raises(AudioFormatError, match=r"M4A.*ffmpeg"):
        await piped(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(4_000))
