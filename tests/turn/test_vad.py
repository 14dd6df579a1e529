"""The detectors behind their door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from textpro_stream.config import TurnOptions
from textpro_stream.errors import WeightsError
from textpro_stream.turn import load_vad
from textpro_stream.turn.vad import SileroVadModel


def test_webrtc_hears_no_voice_in_silence_and_wakes_up_for_a_loud_buzz() -> None:
    vad = load_vad(TurnOptions(vad="webrtc")).open()
    assert [vad.probability(np.zeros(vad.frame, np.float32)) for _ in range(50)] == [0.0] * 50
    t = np.arange(vad.frame * 25) / 16_000
    # A pulse train at 120 Hz with formant-like bands: speech to a detector of sub-band energy.
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 30)) * 0.2
    heard = [vad.probability(part) for part in np.split(buzz.astype(np.float32), 25)]
    assert heard[-1] == 1.0
    assert all(0.0 <= p <= 1.0 for p in heard)


def test_conversations_share_no_state() -> None:
    model = load_vad(TurnOptions(vad="webrtc"))
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.3, (20, 320)).astype(np.float32)
    alone = [p for vad in [model.open()] for p in map(vad.probability, noise)]
    first, second = model.open(), model.open()
    together = []
    for part in noise:
        together.append(first.probability(part))
        second.probability(part[::-1].copy() * 0.1)
    assert together == alone


def test_samples_beyond_full_scale_do_not_wrap() -> None:
    vad = load_vad(TurnOptions(vad="webrtc")).open()
    assert 0.0 <= vad.probability(np.full(320, 3.0, np.float32)) <= 1.0


def test_silero_without_weights_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="textpro models pull silero-vad"):
        load_vad(TurnOptions(vad="silero"))
    with pytest.raises(WeightsError, match=r"no \.onnx file"):
        SileroVadModel(tmp_path)
    (tmp_path / "silero.onnx").write_bytes(b"half a download")
    with pytest.raises(WeightsError, match="not an ONNX model"):
        SileroVadModel(tmp_path)
