"""Results as `textpro bench latency` makes them, without measuring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from textpro_stream.bench import results
from textpro_stream.bench.drive import Turn
from textpro_stream.bench.machine import environment
from textpro_stream.config import Settings

MARKS = {
    "speech_end": -0.5,
    "vad_stop": -0.2,
    "endpoint_decision": 0.0,
    "asr_final": 0.01,
    "last_commit": -0.15,
    "llm_ready": -0.15,
    "first_token": -0.12,
    "first_clause": -0.05,
    "tts_first": -0.02,
    "first_audio": 0.02,
    "endpoint_wait": 0.5,
    "asr_lag": 0.35,
    "ttft_commit": 0.03,
    "ttft_ready": -0.12,
    "tts_ttfb": 0.03,
    "server_perceived": 0.52,
    "spec_waste": 0.0,
    "spec_waste_speech_s": 0.0,
}
Make = Callable[..., list[Turn]]


def make_turns(
    system: str = "streaming",
    lengths: tuple[float, ...] = (2.0, 5.0),
    n: int = 20,
    perceived_s: float = 0.6,
    per_second: float = 0.0,
    cut_off: int = 0,
) -> list[Turn]:
    """Turns whose wait is known, but for 10 ms of noise."""
    rng = np.random.default_rng(len(system))
    turns = []
    for i in range(n):
        for length in lengths:
            extra = per_second * length + float(rng.normal(0, 0.01))
            marks = MARKS | {"server_perceived": perceived_s - 0.08 + extra}
            client = {
                "user_perceived": perceived_s + extra,
                "speech_end_error": 0.07,
                "network": 0.01,
                "unexplained": 0.0,
                "true_endpoint_delay": 0.57,
                "clock_error": 0.0005,
            }
            turns.append(
                Turn(
                    system,
                    f"{length:g}s-{i:02d}",
                    f"{length:g} s",
                    length,
                    "synthesis",
                    false_endpoints=int(i < cut_off),
                    endpoints=1,
                    marks=marks,
                    client=client,
                    load={"load1": 0.5, "own": 0.6, "others": 0.1},
                )
            )
    return turns


@pytest.fixture
def turns_of() -> Make:
    return make_turns


@pytest.fixture
def told() -> dict[str, Any]:
    """An environment."""
    more = {"url": "here", "labels": ["synthesis"], "baselines_paced": False}
    return environment(Settings()) | more | {"server": {"threads": 2, "device": "cpu"}}


@pytest.fixture
def result(told: dict[str, Any]) -> dict[str, Any]:
    """Ours at 0.6 s whatever the length; the others slower, and growing."""
    turns = [
        *make_turns(),
        *make_turns("record-then-run", perceived_s=2.0, per_second=0.05),
        *make_turns("sentence-streaming", perceived_s=1.1, per_second=0.05),
    ]
    crowds = [
        results.session_entry(n, make_turns(n=20, perceived_s=0.3 * n), bound_s=1.0, load={})
        for n in (1, 2, 4)
    ]
    return results.summary(told, turns, turns[:2], crowds)
