"""Write a WAV file that appears whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from textpro_stream.errors import AudioFormatError, ConfigError


class WavWriter:
    """A mono PCM16 file, written piece by piece and put in its place when the block ends well.

    Until then the audio has no name (on Linux), so a run that is killed leaves nothing behind. A
    block that ends with an exception leaves an older file of that name as it was.

        with WavWriter("reply.wav", 22_050) as wav:
            wav.write(samples)

    Args:
        path: where the file shall appear; an older file there is replaced.
        rate_hz: of the samples.

    Raises:
        ConfigError: nothing can be written there.
    """

    def __init__(self, path: str | os.PathLike[str], rate_hz: int) -> None:
        self.path = Path(path).resolve()  # a link keeps pointing where it did
        self.rate_hz = rate_hz
        self.n_samples = 0
        self._hidden: Path | None = None
        if self.path.exists() and not self.path.is_file():
            raise ConfigError(f"{path}: is no file; name a WAV file to write", path=str(path))
        try:
            self._descriptor = self._nameless()
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written ({error.strerror}); name a file in a folder that"
                " exists and is yours",
                path=str(path),
            ) from None
        self._file: Any = soundfile.SoundFile(
            self._descriptor, "w", rate_hz, 1, "PCM_16", format="WAV", closefd=False
        )

    def write(self, samples: NDArray[np.float32]) -> None:
        """Append (n,) samples; what exceeds full scale is clipped.

        Raises:
            AudioFormatError: the disk is full.
        """
        try:
            self._file.write(samples)
        except soundfile.LibsndfileError as error:
            raise AudioFormatError(
                f"{self.path}: writing stopped ({error.error_string}); make room on the disk",
                path=str(self.path),
            ) from None
        self.n_samples += len(samples)

    def save(self) -> None:
        """Put the file in its place. Leaving the block does it."""
        self._file.close()  # completes the header
        try:
            if self._hidden is None:
                self._hidden = self._beside()
                # A directory descriptor makes Python use linkat(), which follows the magic link.
                os.link(
                    f"/proc/self/fd/{self._descriptor}",
                    self._hidden,
                    src_dir_fd=self._descriptor,
                    follow_symlinks=True,
                )
            os.replace(self._hidden, self.path)
            self._hidden = None
        finally:
            self.discard()

    def discard(self) -> None:
        """Forget what was written. After `save` it does nothing."""
        if self._descriptor < 0:
            return
        self._file.close()
        os.close(self._descriptor)
        self._descriptor = -1
        if self._hidden is not None:
            self._hidden.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.save()
        else:
            self.discard()

    def _beside(self) -> Path:
        return self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")

    def _nameless(self) -> int:
        if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").exists():
            try:
                return os.open(self.path.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
            except OSError:  # a file system without nameless files, or a folder that is not there
                pass
        hidden = self._beside()
        descriptor = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        self._hidden = hidden
        return descriptor
