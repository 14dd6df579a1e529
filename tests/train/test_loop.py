"""The loop: it learns, it goes on exactly where it was killed, and it says what broke it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from textpro_stream.errors import ConfigError, StageError
from textpro_stream.train.loop import Run, Schedule

SCHEDULE = Schedule(steps=12, accumulate=3, rate=0.05, evaluate_every=5, checkpoint_s=0.0)


@dataclass
class Line:
    """Learns y = 2 x - 1 from noisy points."""

    killed_at: int = -1  # example at which the power goes
    broken_at: int = -1  # example that is not a number
    drawn: int = 0
    model: nn.Linear = field(default_factory=lambda: Line.fresh())

    @staticmethod
    def fresh() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(1, 1)

    def parameters(self) -> Sequence[nn.Parameter]:
        return list(self.model.parameters())

    def example(self, rng: np.random.Generator, /) -> tuple[float, float]:
        self.drawn += 1
        if self.drawn == self.killed_at:
            raise KeyboardInterrupt
        x = float(rng.normal())
        noise = float(torch.randn(()))  # the loop seeds torch too
        return x, float("nan") if self.drawn == self.broken_at else 2 * x - 1 + 0.01 * noise

    def name_of(self, example: tuple[float, float], /) -> str:
        return f"point {self.drawn}"

    def losses(self, example: tuple[float, float], /) -> Mapping[str, Tensor]:
        x, y = example
        error = (self.model(torch.tensor([x])) - y).square().mean()
        return {"total": error}

    def evaluate(self) -> Mapping[str, float]:
        return {"slope": self.model.weight.item()}

    def save(self, folder: Path, /) -> None:
        (folder / "line.json").write_text(json.dumps(self.model.weight.tolist()))


def silent(line: str) -> None:
    pass


def test_it_learns_and_leaves_a_log_a_picture_and_what_was_learnt(tmp_path: Path) -> None:
    told: list[str] = []
    schedule = Schedule(steps=150, rate=0.1, evaluate_every=50)
    lines = Run(Line(), schedule, tmp_path, tell=told.append).train()
    assert [line["step"] for line in lines] == [0, 50, 100, 150]
    assert lines[-1]["slope"] == pytest.approx(2.0, abs=0.05)
    assert lines[-1]["train_total"] < 0.1 * lines[1]["train_total"]
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert logged == lines
    assert "slope" in (tmp_path / "curves.svg").read_text()
    assert json.loads((tmp_path / "line.json").read_text())[0][0] == lines[-1]["slope"]
    assert "to go" in told[1]
    assert "to go" not in told[-1]


@pytest.mark.parametrize("killed_at", [1, 2, 14, 16, 36])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path, killed_at: int) -> None:
    whole = Run(Line(), SCHEDULE, tmp_path / "whole", tell=silent).train()
    with pytest.raises(KeyboardInterrupt):
        Run(Line(killed_at=killed_at), SCHEDULE, tmp_path / "killed", tell=silent).train()
    gone_on = Run(Line(), SCHEDULE, tmp_path / "killed", tell=silent).train()
    assert gone_on == whole
    files = [tmp_path / name / "line.json" for name in ("whole", "killed")]
    assert files[0].read_text() == files[1].read_text()


def test_a_run_is_not_gone_on_with_as_another(tmp_path: Path) -> None:
    Run(Line(), SCHEDULE, tmp_path, facts={"clips": 5}, tell=silent).train()
    other = Schedule(steps=12, accumulate=3, rate=0.01, evaluate_every=5, checkpoint_s=0.0)
    with pytest.raises(ConfigError, match="another clips, rate; give another --out"):
        Run(Line(), other, tmp_path, facts={"clips": 6}, tell=silent)


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(ConfigError, match="damaged; delete it"):
        Run(Line(), SCHEDULE, tmp_path, tell=silent)


def test_what_is_no_number_stops_it_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"step 2: .* point 7, point 8, point 9"):
        Run(Line(broken_at=8), SCHEDULE, tmp_path, tell=silent).train()
    lines = Run(Line(), SCHEDULE, tmp_path, tell=silent).train()  # nothing of it was kept
    assert np.isfinite(lines[-1]["slope"])


def test_the_rate_rises_and_falls() -> None:
    schedule = Schedule(steps=100, rate=1.0)
    rates = [schedule.rate_at(step) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.05, abs=0.01)
