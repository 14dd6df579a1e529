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
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from textpro_stream.audio.containers import HEAD, UNKNOWN_LENGTH, Part, parts_of, unreadable
from textpro_stream.audio.level import QUIET_DBFS, LevelMeter
from textpro_stream.audio.mixing import Mixer
from textpro_stream.audio.resample import Resampler
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.errors import AudioFormatError

log = logging.getLogger(__name__)

NO_PROMISE = 2**50  # samples: no file is so long
BLOCK_S = 0.1  # decoded at once: large enough to be cheap, small enough to stream
FORMATS = "WAV, FLAC, OGG or MP3"


class FileSource:
    """One sound file, read once from its beginning.

    Channels become one (`audio/mixing.py`). Samples that are no number are replaced by silence and
    counted. A file that ends before it should is played as far as it goes; one that holds more than
    its header says, or several recordings joined, is played whole; a very quiet voice is raised.
    The log says so.

    Args:
        path: a WAV, FLAC, OGG, MP3 or other file that libsndfile reads.
        block_s: seconds decoded at once; changes nothing but memory.
        descriptor: the file, if it is open already; closed with the source.

    Raises:
        AudioFormatError: no such file, a folder, nothing in it, not audio, or audio of 0 s.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        block_s: float = BLOCK_S,
        descriptor: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.n_nonfinite = 0  # samples (any channel) replaced by silence so far
        self._block_s = block_s
        self._descriptor = _open(self.path) if descriptor is None else descriptor
        try:
            self._parts = parts_of(self._descriptor, _size(self._descriptor, self.path))
            self._file = _decoder(self.path, self._descriptor, self._parts[0])
            if self._file.frames == 0:
                raise AudioFormatError(
                    f"{self.path}: holds no audio, only a header; record it again",
                    path=str(self.path),
                )
        except BaseException:
            self.close()
            raise
        self.rate_hz: int = self._file.samplerate
        self.n_channels: int = self._file.channels

    @property
    def length_s(self) -> float | None:
        """How long the header says that it plays; None where it cannot know."""
        if len(self._parts) > 1 or self._file.frames >= NO_PROMISE:
            return None
        return float(self._file.frames / self.rate_hz)

    def close(self) -> None:
        """Let go of the file. Reading to the end, or leaving `chunks`, does it too."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def chunks(self) -> Iterator[AudioChunk]:
        """Give the whole file, in order, as 16 kHz chunks of about `block_s`.

        Raises:
            AudioFormatError: the file cannot be decoded at all, or no sample in it is a number.
        """
        try:
            gain = np.float32(self._gain())
            start = 0
            for samples in self._joined():
                if len(samples):
                    if gain != 1:
                        samples = np.clip(samples * gain, np.float32(-1), np.float32(1))
                    yield AudioChunk(samples, start)
                    start += len(samples)
        finally:
            self.close()

    def _joined(self) -> Iterator[NDArray[np.float32]]:
        """All parts at 16 kHz; each may have a rate and channels of its own."""
        file: _Forward | None = self._file
        for i, part in enumerate(self._parts):
            if i > 0:
                try:
                    file = _decoder(self.path, self._descriptor, part)
                except AudioFormatError:
                    log.warning(
                        "%s: a recording joined to the first cannot be read; %d bytes left out",
                        self.path,
                        part.end - part.start,
                    )
                    continue
            assert file is not None
            if part.length_mended:
                log.warning("%s: holds more than its header says; all of it is played", self.path)
            yield from _resampled(self._mono(file, part), file.samplerate)

    def _gain(self) -> float:
        """What raises a very quiet voice; looks as far as the first sound that is loud enough."""
        with _decoder(self.path, self._descriptor, self._parts[0]) as file:
            meter, mixer = LevelMeter(file.samplerate), Mixer(file.channels, file.samplerate)
            with suppress(soundfile.LibsndfileError):  # told when it is played
                while meter.loudest_dbfs < QUIET_DBFS:
                    block = file.read(file.samplerate, dtype="float32", always_2d=True)
                    if len(block) == 0:
                        break
                    meter.push(mixer.push(_within_scale(block)))
        gain_db = meter.gain_db() if len(self._parts) == 1 else 0.0
        if gain_db > 0:
            log.warning(
                "%s: there is sound, but it is very quiet (%.0f dBFS at its loudest);"
                " raised by %.0f dB; record it louder",
                self.path,
                meter.loudest_dbfs,
                gain_db,
            )
        return float(10 ** (gain_db / 20))

    def _mono(self, file: _Forward, part: Part) -> Iterator[NDArray[np.float32]]:
        n_read, n_bad, shortened = 0, 0, _is_short(file)
        mixer = Mixer(file.channels, file.samplerate)
        n_block = max(1, round(self._block_s * file.samplerate))
        while True:
            try:
                block = file.read(n_block, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                if n_read == 0 and part is self._parts[0]:
                    raise AudioFormatError(
                        f"{self.path}: damaged, nothing in it can be decoded; copy or convert it"
                        f" again ({file.format})",
                        path=str(self.path),
                    ) from error
                shortened = True
                break
            if len(block) == 0:
                break
            n_read += len(block)
            n_bad += int(np.count_nonzero(~np.isfinite(block)))
            yield mixer.push(_within_scale(block))
        yield mixer.finish()
        self.n_nonfinite += n_bad
        if mixer.cancelled:
            log.warning(
                "%s: its channels cancel each other (one is inverted); taken apart", self.path
            )
        if part is self._parts[0]:
            self._refuse_empty(n_read, n_bad == n_read * file.channels)
        if n_bad:
            log.warning("%s: %d samples were no numbers; silence in their place", self.path, n_bad)
        # An MP3 promises whole frames, of which the last may be padding: allow it 0.1 s. A FLAC
        # that was written into a pipe promises nothing, which reads as the largest number.
        promised = file.frames if file.frames < NO_PROMISE else 0
        if shortened or n_read + 0.1 * file.samplerate < promised:
            log.warning(
                "%s: cut short; played the %.1f s that are there",
                self.path,
                n_read / file.samplerate,
            )

    def _refuse_empty(self, n_read: int, no_numbers: bool) -> None:
        if n_read == 0:
            raise AudioFormatError(
                f"{self.path}: cut off before its first sample; copy it again", path=str(self.path)
            )
        if no_numbers:
            raise AudioFormatError(
                f"{self.path}: every sample is NaN or infinite; export it again",
                path=str(self.path),
            )


def _within_scale(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Before channels are mixed: float files may exceed full scale so far that a sum overflows."""
    finite = np.isfinite(block)
    if not finite.all():
        block = np.where(finite, block, np.float32(0))
    return np.clip(block, -1.0, 1.0)


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


def _open(path: Path) -> int:
    """A descriptor of a regular file with something in it.

    Opening it ourselves tells "missing" from "unreadable", and keeps libsndfile from judging the
    file by its name.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise AudioFormatError(f"{path}: no such file; check the name", path=str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioFormatError(
            f"{path}: cannot be opened ({reason}); check the name and its permissions",
            path=str(path),
        ) from None
    mode = os.fstat(descriptor).st_mode
    problem = ""
    if stat.S_ISDIR(mode):
        problem = f"is a folder; name the {FORMATS} files in it"
    elif not stat.S_ISREG(mode):
        problem = "is no regular file; pipe it into `-` instead"
    if problem:
        os.close(descriptor)
        raise AudioFormatError(f"{path}: {problem}", path=str(path))
    return descriptor


def _size(descriptor: int, path: Path) -> int:
    size = os.fstat(descriptor).st_size
    if size == 0:
        raise AudioFormatError(f"{path}: is empty; record or copy it again", path=str(path))
    return size


def _decoder(path: Path, descriptor: int, part: Part) -> _Forward:
    try:
        return _Forward(part.window(descriptor))
    except soundfile.LibsndfileError as error:
        why = unreadable(os.pread(descriptor, HEAD, part.start))
        raise AudioFormatError(
            f"{path}: not audio that can be read: {why}", path=str(path), found=why
        ) from error


def _is_short(file: _Forward) -> bool:
    """A WAV header declares more bytes of audio than there are."""
    match = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    # Programs that write into a pipe cannot know the length and declare the largest possible.
    return match is not None and int(match[2]) < int(match[1]) < UNKNOWN_LENGTH
