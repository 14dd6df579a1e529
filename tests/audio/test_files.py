from __future__ import annotations

import logging
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from textpro_stream.audio.files import FileSource
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import AudioFormatError


def tone(rate_hz: int, seconds: float = 1.0, f_hz: float = 440.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * f_hz * np.arange(int(rate_hz * seconds)) / rate_hz)).astype(
        np.float32
    )


def read(path: Path, **options: float) -> NDArray[np.float32]:
    """The whole file, with its positions checked."""
    parts, end = [np.zeros(0, np.float32)], 0
    for chunk in FileSource(path, **options).chunks():
        assert chunk.start == end
        assert chunk.samples.dtype == np.float32
        end = chunk.end
        parts.append(chunk.samples)
    return np.concatenate(parts)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (16_000, 1), (44_100, 2)])
def test_any_format_becomes_mono_at_16_khz(
    tmp_path: Path, suffix: str, rate_hz: int, channels: int
) -> None:
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, np.repeat(tone(rate_hz)[:, None], channels, 1), rate_hz)
    samples = read(path)
    assert len(samples) == pytest.approx(SAMPLE_RATE, abs=1)
    middle = slice(2_000, 14_000)
    # A lossy coder may shift the phase, never the pitch or the level.
    spectrum = np.abs(np.fft.rfft(samples[middle] * np.hanning(12_000)))
    assert np.argmax(spectrum) * SAMPLE_RATE / 12_000 == pytest.approx(440, abs=2)
    assert np.sqrt(2 * np.mean(samples[middle] ** 2)) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("rate_hz", "channels"), [(96_000, 1), (48_000, 6), (11_025, 3)])
def test_odd_rates_and_many_channels(tmp_path: Path, rate_hz: int, channels: int) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.repeat(tone(rate_hz)[:, None], channels, 1), rate_hz)
    samples = read(path)
    assert len(samples) == SAMPLE_RATE
    assert np.allclose(samples[1_000:-1_000], tone(SAMPLE_RATE)[1_000:-1_000], atol=1e-3)


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([tone(16_000), np.zeros(16_000, np.float32)], axis=1)
    soundfile.write(tmp_path / "left.wav", stereo, 16_000, subtype="FLOAT")
    assert np.allclose(read(tmp_path / "left.wav"), tone(16_000) / 2, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(block_ms=st.integers(1, 1_500), rate_hz=st.sampled_from([8_000, 16_000, 22_050, 48_000]))
def test_block_size_changes_no_bit(
    tmp_path_factory: pytest.TempPathFactory, block_ms: int, rate_hz: int
) -> None:
    path = tmp_path_factory.getbasetemp() / f"noise{rate_hz}.wav"
    noise = np.random.default_rng(3).uniform(-0.5, 0.5, rate_hz).astype(np.float32)
    soundfile.write(path, noise, rate_hz)
    assert np.array_equal(read(path, block_s=block_ms / 1000), read(path, block_s=10))


def test_a_long_file_is_never_loaded_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
        second = np.zeros((48_000, 2), np.float32)
        for _ in range(120):
            file.write(second)
    FileSource(path).close()  # what is loaded once, is loaded
    tracemalloc.start()
    try:
        n_samples = sum(len(chunk.samples) for chunk in FileSource(path).chunks())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert n_samples == 120 * SAMPLE_RATE
    assert peak < 2_000_000  # the file holds 23 MB


def test_clipped_and_overdriven_audio_stays_within_full_scale(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", 1e30 * tone(48_000), 48_000, subtype="FLOAT")
    samples = read(tmp_path / "loud.wav")
    assert np.abs(samples).max() == 1.0
    assert np.isfinite(samples).all()


def test_samples_that_are_no_numbers_become_silence_and_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = tone(16_000)
    samples[[10, 500, 9_000]] = np.nan, np.inf, -np.inf
    soundfile.write(tmp_path / "holes.wav", samples, 16_000, subtype="FLOAT")
    source = FileSource(tmp_path / "holes.wav")
    with caplog.at_level(logging.WARNING):
        out = np.concatenate([chunk.samples for chunk in source.chunks()])
    assert source.n_nonfinite == 3
    assert "3 samples were no numbers" in caplog.text
    samples[[10, 500, 9_000]] = 0
    assert np.allclose(out, samples)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_truncated_file_is_played_as_far_as_it_goes(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"speech.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, 48_000), 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        assert 0.2 * 48_000 < len(read(path)) < 0.8 * 48_000
    if suffix != "ogg":  # an Ogg page says nothing of those that should follow
        assert "cut short" in caplog.text


def test_a_whole_file_is_not_called_short(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for suffix in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(tmp_path / f"a.{suffix}", tone(44_100), 44_100)
        read(tmp_path / f"a.{suffix}")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[40:44] = b"\xff\xff\xff\xff"  # written by a program that wrote into a pipe
    (tmp_path / "piped.wav").write_bytes(data)
    assert len(read(tmp_path / "piped.wav")) == SAMPLE_RATE
    assert not caplog.records


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "header only":
        soundfile.write(path, np.zeros(0, np.float32), 16_000)
    elif kind == "cut in the header":
        soundfile.write(path, tone(16_000), 16_000)
        path.write_bytes(path.read_bytes()[:20])
    elif kind == "cut behind the header":
        soundfile.write(path, tone(16_000), 16_000)
        path.write_bytes(path.read_bytes()[:44])
    elif kind == "flac cut behind the header":
        soundfile.write(path, tone(16_000), 16_000, format="FLAC")
        path.write_bytes(path.read_bytes()[:100])
    elif kind == "mp3 cut in the header":
        soundfile.write(path, tone(16_000), 16_000, format="MP3")
        path.write_bytes(path.read_bytes()[:100])
    elif kind == "all nan":
        soundfile.write(path, np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    elif kind != "missing":
        path.write_bytes(
            {
                "empty": b"",
                "text": b"Hello, I am a letter to my aunt.\n" * 40,
                "short text": "naïve".encode(),
                "noise": np.random.default_rng(0).bytes(4_000),
                "zeros": bytes(4_000),
                "m4a": b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(4_000),
                "webm": b"\x1aE\xdf\xa3" + bytes(4_000),
            }[kind]
        )
    return path


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("empty", "is empty"),
        ("folder", "is a folder"),
        ("pipe", "no regular file"),
        ("text", "it looks like text"),
        ("short text", "it looks like text"),
        ("noise", "unknown format"),
        ("zeros", "unknown format"),
        ("m4a", "ffmpeg"),
        ("webm", "ffmpeg"),
        ("header only", "holds no audio"),
        ("cut in the header", "damaged or cut off"),
        ("cut behind the header", "holds no audio"),
        ("flac cut behind the header", "damaged"),
        ("mp3 cut in the header", "not audio"),
        ("all nan", "every sample is NaN"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path: Path, kind: str, says: str) -> None:
    path = bad_file(tmp_path, kind)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    with pytest.raises(AudioFormatError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message
    assert caught.value.facts["path"] == str(path)
    if before:
        caught = None
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_that_cannot_be_is_one_line_too() -> None:
    with pytest.raises(AudioFormatError, match="cannot be opened"):
        FileSource("a\0b.wav")


def test_the_name_does_not_decide_the_format(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone(16_000), 16_000)
    os.rename(tmp_path / "a.flac", tmp_path / "a.raw")
    assert len(read(tmp_path / "a.raw")) == SAMPLE_RATE


def bytes_of(folder: Path, kind: str, rate_hz: int = 16_000, subtype: str | None = None) -> bytes:
    soundfile.write(folder / "one", tone(rate_hz), rate_hz, format=kind, subtype=subtype)
    return (folder / "one").read_bytes()


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", None), ("MP3", None), ("WAV", None)],
)
def test_recordings_that_were_joined_are_all_played(
    tmp_path: Path, kind: str, subtype: str | None
) -> None:
    one = bytes_of(tmp_path, kind, 16_000, subtype)
    other = bytes_of(tmp_path, kind, 24_000, subtype)
    (tmp_path / "joined").write_bytes(one + other)
    assert len(read(tmp_path / "joined")) == pytest.approx(2 * SAMPLE_RATE, abs=200)


def with_length(data: bytes, kind: str, length: int) -> bytes:
    """The file as a recorder leaves it that did not write its true length."""
    out = bytearray(data)
    if kind == "WAV":
        out[4:8] = (length + 36 if length else 0).to_bytes(4, "little")
        out[40:44] = length.to_bytes(4, "little")
    elif kind == "RF64":
        at = out.find(b"ds64")
        out[at + 8 : at + 32] = bytes(8) + length.to_bytes(8, "little") + bytes(8)
    elif kind == "AU":
        out[8:12] = length.to_bytes(4, "big")
    elif kind == "CAF":
        at = out.find(b"data")
        out[at + 4 : at + 12] = (length or -1).to_bytes(8, "big", signed=True)
    elif kind == "FLAC":  # "unknown", as an encoder leaves it that wrote into a pipe
        out[21] &= 0xF0
        out[22:26] = bytes(4)
    return bytes(out)


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AU", "CAF", "FLAC"])
def test_a_length_that_was_never_written_hides_nothing(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "killed").write_bytes(with_length(bytes_of(tmp_path, kind), kind, 0))
    with caplog.at_level(logging.WARNING):
        samples = read(tmp_path / "killed")
    assert np.allclose(samples, tone(16_000), atol=1e-3)
    assert not caplog.records


def test_a_length_that_is_too_short_hides_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "short.wav").write_bytes(with_length(bytes_of(tmp_path, "WAV"), "WAV", 8_000))
    with caplog.at_level(logging.WARNING):
        assert len(read(tmp_path / "short.wav")) == SAMPLE_RATE
    assert "more than its header says" in caplog.text


def test_titles_behind_the_audio_are_not_played(tmp_path: Path) -> None:
    titles = b"LIST" + (4_096).to_bytes(4, "little") + bytes(4_096)
    (tmp_path / "a.wav").write_bytes(bytes_of(tmp_path, "WAV") + titles)
    assert len(read(tmp_path / "a.wav")) == SAMPLE_RATE


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_zeros_before_the_file_are_passed_over(tmp_path: Path, kind: str) -> None:
    (tmp_path / "late").write_bytes(bytes(5_000) + bytes_of(tmp_path, kind))
    assert len(read(tmp_path / "late")) == pytest.approx(SAMPLE_RATE, abs=100)


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_cancel_each_other_are_heard_and_told(
    tmp_path: Path, channels: int, caplog: pytest.LogCaptureFixture
) -> None:
    voice = tone(16_000, 3.0)
    signs = np.resize([1.0, -1.0], channels)
    soundfile.write(tmp_path / "a.wav", voice[:, None] * signs, 16_000)
    with caplog.at_level(logging.WARNING):
        samples = read(tmp_path / "a.wav")
    assert np.allclose(np.abs(samples), np.abs(voice), atol=1e-3)
    assert "cancel each other" in caplog.text
    assert np.array_equal(read(tmp_path / "a.wav", block_s=0.013), samples)


def test_an_inverted_channel_that_comes_later_is_heard_too(tmp_path: Path) -> None:
    voice = tone(16_000, 12.0)
    both = np.stack([voice, voice], axis=1)
    both[5 * 16_000 :, 1] *= -1
    soundfile.write(tmp_path / "a.wav", both, 16_000)
    samples = read(tmp_path / "a.wav")
    rms = np.sqrt(2 * np.mean(samples[-3 * 16_000 :] ** 2))
    assert rms == pytest.approx(0.5, abs=0.01)


def test_a_very_quiet_voice_is_raised_and_quiet_noise_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoken = np.zeros(5 * 16_000, np.float32)
    spoken[16_000 : 3 * 16_000] = 0.004 * tone(16_000, 2.0)
    soundfile.write(tmp_path / "quiet.wav", spoken, 16_000)
    with caplog.at_level(logging.WARNING):
        assert np.abs(read(tmp_path / "quiet.wav")).max() > 0.04
    assert "very quiet" in caplog.text
    noise = np.random.default_rng(0).normal(0, 0.002, 5 * 16_000)
    soundfile.write(tmp_path / "noise.wav", noise, 16_000)
    assert np.abs(read(tmp_path / "noise.wav")).max() < 0.02


def speex() -> bytes:
    return b"OggS\0\2" + bytes(20) + b"\x01\x50Speex   1.2.1" + bytes(400)


def wav_of(tag: int) -> bytes:
    head = b"RIFF\x7c\x37\0\0WAVEfmt \x12\0\0\0" + tag.to_bytes(2, "little") + b"\1\0"
    return head + b"\x40\x1f\0\0\xa0\x0f\0\0\1\0\4\0\0\0data\0\4\0\0" + bytes(1_024)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (speex(), "Speex"),
        (wav_of(0x45), "G.726"),
        (wav_of(0x161), "WMA"),
        (b"#!AMR\n" + bytes(400), "AMR"),
        (b"wvpk" + bytes(400), "WavPack"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_name_and_cure(
    tmp_path: Path, data: bytes, says: str
) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(AudioFormatError, match=rf"{says}.*ffmpeg"):
        FileSource(tmp_path / "a")
