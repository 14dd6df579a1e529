"""Sound files of any rate and channel count -> mono 16 kHz chunks, block by block.

A file is decoded as it is consumed, so an hour costs as little memory as a second. What a file
calls itself does not count: the format is read from its content. Cutting the file into other
blocks gives the same samples, bit for bit (the resampler carries its state).
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from textpro_stream.audio.resample import Resampler
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.errors import AudioFormatError

log = logging.getLogger(__name__)

BLOCK_S = 0.1  # decoded at once: large enough to be cheap, small enough to stream
FORMATS = "WAV, FLAC, OGG or MP3"


class FileSource:
    """One sound file, read once from its beginning.

    Channels are averaged. Samples that are no number are replaced by silence and counted. A file
    that ends before it should is played as far as it goes, and says so in the log.

    Args:
        path: a WAV, FLAC, OGG, MP3 or other file that libsndfile reads.
        block_s: seconds decoded at once; changes nothing but memory.

    Raises:
        AudioFormatError: no such file, a folder, nothing in it, not audio, or audio of 0 s.
    """

    def __init__(self, path: str | os.PathLike[str], *, block_s: float = BLOCK_S) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        self.rate_hz: int = self._file.samplerate
        self.n_channels: int = self._file.channels
        self.n_nonfinite = 0  # samples (any channel) replaced by silence so far
        self._block = max(1, round(block_s * self.rate_hz))
        self._promised, declared = self._file.frames, _wav_bytes(self._file.extra_info)
        if self._promised == 0:
            self.close()
            raise AudioFormatError(
                f"{self.path}: holds no audio, only a header; record it again", path=str(path)
            )
        self._shortened = declared is not None and declared[0] > declared[1]

    @property
    def duration_s(self) -> float:
        """What the header promises; the file may be shorter."""
        return float(self._promised / self.rate_hz)

    def close(self) -> None:
        """Let go of the file. Reading to the end, or leaving `chunks`, does it too."""
        self._file.close()

    def chunks(self) -> Iterator[AudioChunk]:
        """Give the whole file, in order, as 16 kHz chunks of about `block_s`.

        Raises:
            AudioFormatError: the file cannot be decoded at all, or no sample in it is a number.
        """
        try:
            start = 0
            for samples in _resampled(self._mono(), self.rate_hz):
                if len(samples):
                    yield AudioChunk(samples, start)
                    start += len(samples)
        finally:
            self.close()

    def _mono(self) -> Iterator[NDArray[np.float32]]:
        n_read = 0
        while True:
            try:
                block = self._file.read(self._block, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                if n_read == 0:
                    raise AudioFormatError(
                        f"{self.path}: damaged, nothing in it can be decoded; copy or convert it"
                        f" again ({self._file.format})",
                        path=str(self.path),
                    ) from error
                self._shortened = True
                break
            if len(block) == 0:
                break
            n_read += len(block)
            finite = np.isfinite(block)
            if not finite.all():
                self.n_nonfinite += int(np.count_nonzero(~finite))
                block = np.where(finite, block, np.float32(0))
            # Before the mean: float files may exceed full scale so far that a sum overflows.
            yield np.clip(block, -1.0, 1.0).mean(axis=1, dtype=np.float32)
        self._review(n_read)

    def _review(self, n_read: int) -> None:
        """Judge the file after its last block."""
        if n_read == 0:
            raise AudioFormatError(
                f"{self.path}: cut off before its first sample; copy it again", path=str(self.path)
            )
        if self.n_nonfinite == n_read * self.n_channels:
            raise AudioFormatError(
                f"{self.path}: every sample is NaN or infinite; export it again",
                path=str(self.path),
            )
        if self.n_nonfinite:
            log.warning(
                "%s: %d samples were no numbers; silence in their place",
                self.path,
                self.n_nonfinite,
            )
        # An MP3 promises whole frames, of which the last may be padding: allow it 0.1 s.
        if self._shortened or n_read + 0.1 * self.rate_hz < self._promised:
            log.warning(
                "%s: cut short; played the %.1f s that are there", self.path, n_read / self.rate_hz
            )


def _resampled(
    blocks: Iterator[NDArray[np.float32]], rate_hz: int
) -> Iterator[NDArray[np.float32]]:
    if rate_hz == SAMPLE_RATE:
        yield from blocks
        return
    resampler = Resampler(rate_hz)
    for block in blocks:
        yield resampler.push(block)
    yield resampler.finish()


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile ships no types
    """A sound file that is only ever read forward.

    soundfile seeks to where it already is after each read. In an MP3 that loses the bits carried
    over from earlier frames: read in blocks, a tone came out 10 dB too low.
    """

    def seekable(self) -> bool:
        return False


def _open(path: Path) -> _Forward:
    try:
        # Opening it ourselves tells "missing" from "unreadable", and keeps libsndfile from
        # judging the file by its name.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise AudioFormatError(f"{path}: no such file; check the name", path=str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioFormatError(
            f"{path}: cannot be opened ({reason}); check the name and its permissions",
            path=str(path),
        ) from None
    status = os.fstat(descriptor)
    problem = ""
    if stat.S_ISDIR(status.st_mode):
        problem = f"is a folder; name the {FORMATS} files in it"
    elif not stat.S_ISREG(status.st_mode):
        problem = "is no regular file; pipe raw PCM16 into `-` with --rate instead"
    elif status.st_size == 0:
        problem = "is empty; record or copy it again"
    if problem:
        os.close(descriptor)
        raise AudioFormatError(f"{path}: {problem}", path=str(path))
    head = os.pread(descriptor, 64, 0)
    try:
        return _Forward(descriptor, closefd=True)
    except soundfile.LibsndfileError as error:
        raise AudioFormatError(
            f"{path}: not audio that can be read ({_looks_like(head)}); give {FORMATS}",
            path=str(path),
            found=_looks_like(head),
        ) from error


def _looks_like(head: bytes) -> str:
    """Guess what a file is from its first bytes, in a few words."""
    if head[4:8] == b"ftyp":
        return "it looks like MP4 or M4A; convert it: ffmpeg -i FILE out.wav"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "it looks like WebM or Matroska; convert it: ffmpeg -i FILE out.wav"
    if head[:4] in (b"RIFF", b"fLaC", b"OggS") or head[:3] == b"ID3" or head[:2] == b"\xff\xfb":
        return "its header is damaged or cut off"
    text = head.decode("utf-8", errors="ignore")
    if text and len(text.encode()) > len(head) - 4 and (text.replace("\n", " ")).isprintable():
        return "it looks like text"
    return "unknown format"


def _wav_bytes(log_text: str) -> tuple[int, int] | None:
    """Bytes of audio that a WAV header declares, and that there are, where they differ."""
    match = re.search(r"^data : (\d+) \(should be (\d+)\)", log_text, re.MULTILINE)
    # Programs that write into a pipe cannot know the length and declare the largest possible.
    return (int(match[1]), int(match[2])) if match and int(match[1]) < 0x7FFFFF00 else None
