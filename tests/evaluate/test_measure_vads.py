"""The detector table: figures that can be worked out by hand, and one run over real code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from textpro_stream.config import TurnOptions
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.manifest import Item
from textpro_stream.evaluate.vad import (
    Clip,
    Listening,
    area_under_curve,
    measure_vads,
    noise_row,
    speech_row,
)

OPTIONS = TurnOptions(
    threshold=0.5, start_ms=100, preroll_ms=100, eager_ms=200, silence_ms=500, silence_long_ms=1000
)


def clip(*parts: tuple[bool, int]) -> Clip:
    """(speaking, ms) pairs."""
    speaking = np.concatenate([np.full(ms // 10, value) for value, ms in parts])
    samples = np.zeros(len(speaking) * 160, np.float32)
    return Clip(Item("x", Path("x.flac"), "", "read", 1.0), samples, speaking)


def listening(*parts: tuple[float, int]) -> Listening:
    """(probability, ms) pairs as 20 ms decisions."""
    return Listening(320, [p for p, ms in parts for _ in range(ms // 20)])


def test_a_perfect_detector() -> None:
    heard = [
        (clip((False, 500), (True, 1000), (False, 2000)), listening((0, 500), (1, 1000), (0, 2000)))
    ]
    row = speech_row(OPTIONS, "clean", 0.0, heard)
    assert (row.miss, row.false_alarm, row.f1, row.auc) == (0, 0, 1, 1)
    assert row.onset_ms == (100, 100)
    assert row.early_ms == row.stop_ms == (0, 0)
    assert (row.clipped, row.unheard, row.cut_short, row.cut_long) == (0, 0, 0, 0)
    assert row.opened_by_noise == 0


def test_a_turn_that_noise_opened_gives_no_times() -> None:
    speech = clip((False, 2000), (True, 500), (False, 2000))
    noisy = (speech, listening((0, 300), (1, 200), (0, 1500), (1, 500), (0, 2000)))
    row = speech_row(OPTIONS, "0 dB", 0.0, [noisy])
    assert row.opened_by_noise == 1
    assert np.isnan(row.onset_ms[0])


def test_late_deaf_and_hasty_turns_are_counted() -> None:
    speech = clip((False, 500), (True, 1000), (False, 2000))
    late = (speech, listening((0, 800), (1, 700), (0, 2000)))
    deaf = (speech, listening((0, 3500)))
    pausing = (
        clip((True, 500), (False, 700), (True, 500), (False, 2000)),
        listening((1, 500), (0, 700), (1, 500), (0, 2000)),
    )
    row = speech_row(OPTIONS, "clean", 0.0, [late, deaf, pausing])
    assert row.early_ms[1] == pytest.approx(300, abs=20)
    assert row.clipped == pytest.approx(1 / 2)
    assert row.unheard == 1
    assert row.cut_short == pytest.approx(1 / 3)
    assert row.cut_long == 0
    assert 0.3 < row.miss < 0.6


def test_openings_are_per_minute() -> None:
    cough = listening((0, 1000), (1, 200), (0, 1800))
    options = replace(OPTIONS, barge_in_ms=300)
    row = noise_row(options, "noise", [(48_000, cough)] * 4)
    assert row.openings_per_minute == pytest.approx(20)
    assert row.minutes == pytest.approx(0.2)
    assert row.voiced == pytest.approx(200 / 3000)
    assert row.ducks_per_minute == pytest.approx(20)  # 200 ms of voice are not yet a barge-in
    assert row.stops_per_minute == 0
    shout = listening((0, 1000), (1, 700), (0, 1300))  # long enough for two replies, and a third
    row = noise_row(options, "noise", [(48_000, shout)])
    assert row.stops_per_minute == pytest.approx(40)
    assert row.ducks_per_minute == pytest.approx(60)


def test_area_counts_ties_half() -> None:
    truth = np.array([True, True, False, False])
    assert area_under_curve(np.array([0.9, 0.8, 0.1, 0.2]), truth) == 1
    assert area_under_curve(np.array([0.5, 0.5, 0.5, 0.5]), truth) == 0.5
    assert area_under_curve(np.array([0.9, 0.3, 0.3, 0.1]), truth) == pytest.approx(7 / 8)


def test_the_whole_table_from_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(16_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 30)) * 0.1
    hush = rng.normal(0, 1e-4, 8_000)
    soundfile.write(tmp_path / "speech.wav", np.concatenate([hush, buzz, hush]), 16_000)
    soundfile.write(tmp_path / "noise.wav", rng.normal(0, 0.05, 32_000), 16_000)
    for name, kind in (("speech", "read"), ("noise", "noise")):
        entry = {"id": name, "audio": f"{name}.wav", "text": "", "kind": kind}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(entry) + "\n")
    table = measure_vads(tmp_path / "speech.jsonl", tmp_path / "noise.jsonl", None)
    assert [(row.vad, row.condition) for row in table.speech] == [
        ("webrtc", condition) for condition in ("clean", "20 dB", "10 dB", "0 dB")
    ]
    assert table.speech[0].miss < 0.1
    assert table.noise[0].minutes == pytest.approx(1 / 30)
    lines = str(table).splitlines()
    assert len({line.count("|") for line in lines[:6]}) == 1  # every row as wide as its head
    with pytest.raises(ConfigError, match="no items"):
        measure_vads(tmp_path / "noise.jsonl", tmp_path / "noise.jsonl", None)
