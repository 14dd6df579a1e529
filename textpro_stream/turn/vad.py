"""Voice activity: how likely is it that this short stretch of audio is speech?

Two detectors behind one door. A `VadModel` holds what conversations may share (weights); `open`
gives a `Vad`, the state of one conversation. Neither knows of turns; note 0001 compares them.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textpro_stream.audio.pcm import encode_pcm16
from textpro_stream.config import TurnOptions
from textpro_stream.contracts import FRAME, SAMPLE_RATE
from textpro_stream.errors import WeightsError
from textpro_stream.ports import VadModel


class WebrtcVadModel:
    """WebRTC's detector: Gaussian mixtures over six sub-bands, no weights to load."""

    def open(self) -> WebrtcVad:
        """A detector that has heard nothing yet."""
        return WebrtcVad()


class WebrtcVad:
    """Votes of WebRTC's four aggressiveness modes, averaged over the last decisions.

    One mode only says yes or no. The share of yes votes is a graded figure, so that the same
    threshold and hysteresis serve both detectors, and costs no delay.
    """

    frame = FRAME  # 20 ms; WebRTC takes 10, 20 or 30 ms
    _MODES = (0, 1, 2, 3)
    _DECISIONS = 3  # 60 ms: one stray frame is no voice; longer delays the onset

    def __init__(self) -> None:
        import webrtcvad

        self._detectors = [webrtcvad.Vad(mode) for mode in self._MODES]
        self._shares: deque[float] = deque(maxlen=self._DECISIONS)

    def probability(self, samples: NDArray[np.float32], /) -> float:
        """Share of yes votes over the last 60 ms; `samples` has shape (320,)."""
        pcm = encode_pcm16(samples)
        votes = sum(detector.is_speech(pcm, SAMPLE_RATE) for detector in self._detectors)
        self._shares.append(votes / len(self._detectors))
        return sum(self._shares) / len(self._shares)


def open_onnx(path: Path, advice: str = "") -> Any:  # onnxruntime ships no types
    """An ONNX model on one thread of the CPU.

    Raises:
        WeightsError: it is none; `advice` ends the message.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no base class
        raise WeightsError(f"{path}: not an ONNX model{advice}", path=path) from error


class SileroVadModel:
    """Silero's recurrent network (ONNX, 2 MB) on one thread."""

    def __init__(self, folder: Path) -> None:
        """Load the one `.onnx` file of a folder.

        Raises:
            WeightsError: the folder holds none, or it is no ONNX model.
        """
        files = sorted(folder.glob("*.onnx"))
        if not files:
            raise WeightsError(
                f"{folder}: no .onnx file; fetch it with: textpro models pull silero-vad",
                path=folder,
            )
        # 0.1 ms of work per window: a pool would only cost wake-ups, and its idle threads spin.
        self._session = open_onnx(files[0], "; repair it with: textpro models pull silero-vad")

    def open(self) -> SileroVad:
        """A detector that has heard nothing yet."""
        return SileroVad(self._session)


class SileroVad:
    """One conversation's recurrent state and input context over a shared session."""

    frame = 512  # samples; the only window that the network takes at 16 kHz
    _CONTEXT = 64  # samples of the window before, put in front of each

    def __init__(self, session: Any) -> None:  # onnxruntime.InferenceSession ships no types
        self._session = session
        self._state = np.zeros((2, 1, 128), np.float32)
        self._input = np.zeros((1, self._CONTEXT + self.frame), np.float32)
        self._rate = np.array(SAMPLE_RATE, np.int64)

    def probability(self, samples: NDArray[np.float32], /) -> float:
        """Speech probability of the next window, shape (512,)."""
        self._input[0, : self._CONTEXT] = self._input[0, -self._CONTEXT :]
        self._input[0, self._CONTEXT :] = samples
        output, self._state = self._session.run(
            None, {"input": self._input, "state": self._state, "sr": self._rate}
        )
        return float(output[0, 0])


def load_vad(options: TurnOptions, folder: Path | None = None) -> VadModel:
    """The detector that `options.vad` names.

    Args:
        options: which one.
        folder: where the store put Silero's weights; WebRTC's needs none.

    Raises:
        WeightsError: Silero without a folder, or with a useless one.
    """
    if options.vad == "webrtc":
        return WebrtcVadModel()
    if folder is None:
        raise WeightsError(
            "vad silero needs its weights; fetch them with: textpro models pull silero-vad,"
            " or choose --vad webrtc"
        )
    return SileroVadModel(folder)
