"""Where a run leaves files: the spoken replies as a WAV, the trace. Whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from textpro_stream.audio.wav import WavWriter
from textpro_stream.contracts import SpokenChunk


class ReplyWav:
    """Spoken replies one after another in one file, made when the first one speaks.

    Args:
        path: of the WAV; None to keep nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path.absolute() if path is not None else None
        self.duration_s = 0.0
        self._wav: WavWriter | None = None
        if path is not None:  # find out now that it cannot be written, not after the talk
            WavWriter(path, 16_000).discard()

    def write(self, chunk: SpokenChunk) -> None:
        """Append a piece of reply."""
        if self.path is None:
            return
        if self._wav is None:
            self._wav = WavWriter(self.path, chunk.rate_hz)
        self._wav.write(chunk.samples)
        self.duration_s += len(chunk.samples) / chunk.rate_hz

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._wav is not None:
            if kind is None:
                self._wav.save()
            else:
                self._wav.discard()
