"""A judge from outside: an ONNX model that hears the last eight seconds, as Smart Turn does.

Its input is Whisper's log-mel of eight seconds, (1, 80, 800), silence in front of what is shorter,
samples scaled to mean 0 and variance 1. Its output is one number: P(end).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import MEL_HOP, SAMPLE_RATE
from textpro_stream.errors import WeightsError
from textpro_stream.turn.vad import open_onnx
from textpro_stream.whisper.mel import N_FFT, MelStream, mel_filters, normalise

_WINDOW = 8 * SAMPLE_RATE
_N_MELS = 80


class SmartTurn:
    """An ONNX model on one thread.

    Raises:
        WeightsError: the file is no ONNX model, or wants another input.
    """

    def __init__(self, path: Path) -> None:
        self._session = open_onnx(path)
        wanted = self._session.get_inputs()
        shape = wanted[0].shape
        if len(wanted) != 1 or list(shape[1:]) != [_N_MELS, _WINDOW // MEL_HOP]:
            told = ", ".join(f"{one.name} {one.shape}" for one in wanted)
            raise WeightsError(f"{path}: wants {told}; expected one input (n, 80, 800)", path=path)
        self._input = wanted[0].name
        self._filters = mel_filters(_N_MELS)

    def p_end(self, samples: NDArray[np.float32]) -> float:
        """P(end) after this audio, 16 kHz; the last eight seconds count."""
        output = self._session.run(None, {self._input: self._features(samples)})[0]
        return float(np.ravel(output)[0])

    def _features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        held = np.asarray(samples[-_WINDOW:], np.float32)
        held = np.pad(held, (_WINDOW - len(held), 0))
        held = (held - held.mean()) / np.sqrt(held.var() + 1e-7)
        # Whisper mirrors both ends; the stream here mirrors its start, the end comes with it.
        end = held[-N_FFT // 2 - 1 : -1][::-1]
        frames = MelStream(self._filters).push(np.concatenate([held, end]))[: _WINDOW // MEL_HOP]
        mel: NDArray[np.float32] = normalise(frames, frames.max()).T[None].numpy()
        return np.ascontiguousarray(mel)
