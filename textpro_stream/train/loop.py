"""The one training loop: accumulation, a schedule, checkpoints, exact resume, curves.

What is drawn in a step depends on the seed and the step's number alone. So a run that was killed
goes on from its last checkpoint as if nothing had happened, to the same losses (on the same machine
and with as many threads). Knows nothing of what is trained: `Objective` does.

In the folder of a run: `checkpoint.pt` (where to go on), `log.jsonl` (one line an evaluation),
`curves.svg` (the same as a picture), and what the objective saves at the end.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from textpro_stream.errors import ConfigError, StageError
from textpro_stream.files import replacing
from textpro_stream.train.curves import draw_curves

E = TypeVar("E")
CHECKPOINT, LOG, CURVES = "checkpoint.pt", "log.jsonl", "curves.svg"


class Objective(Protocol[E]):
    """What is trained, and by which loss."""

    def parameters(self) -> Sequence[nn.Parameter]:
        """Those that learn."""
        ...

    def example(self, rng: np.random.Generator, /) -> E:
        """Draw one; all that is random comes from `rng`."""
        ...

    def name_of(self, example: E, /) -> str:
        """Which clip it is, for whoever looks for the cause of a fault."""
        ...

    def losses(self, example: E, /) -> Mapping[str, Tensor]:
        """Scalars; `total` is what is minimised, the others are told beside it."""
        ...

    def evaluate(self) -> Mapping[str, float]:
        """Figures over what is held out; must not depend on when it is asked."""
        ...

    def save(self, folder: Path, /) -> None:
        """Write what was learnt in the form that inference reads."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, and how fast."""

    steps: int
    accumulate: int = 8  # examples a step
    rate: float = 1e-3  # the highest learning rate
    warmup: float = 0.05  # share of steps in which it rises; then it falls as a cosine does
    last: float = 0.05  # share of the highest at the end
    weight_decay: float = 0.01
    clip: float = 1.0  # norm of a step's gradient
    evaluate_every: int = 50  # steps
    checkpoint_s: float = 180.0
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """Of the step with this number; the first is 0."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return self.rate * (step + 1) / rising
        along = (step - rising) / max(1, self.steps - rising)
        return self.rate * (self.last + (1 - self.last) * (1 + math.cos(math.pi * along)) / 2)


class Run(Generic[E]):
    """One training, in one folder.

    Args:
        objective: what is trained.
        schedule: how.
        folder: of the run; made, or gone on with.
        facts: what else must be equal for a run to be gone on with, such as the manifest.
        tell: told one line now and then.
    """

    def __init__(
        self,
        objective: Objective[E],
        schedule: Schedule,
        folder: Path,
        *,
        facts: Mapping[str, object] | None = None,
        tell: Callable[[str], None] = print,
    ) -> None:
        self._objective, self._schedule, self._folder, self._tell = (
            objective,
            schedule,
            folder,
            tell,
        )
        self._parameters = list(objective.parameters())
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=schedule.rate, weight_decay=schedule.weight_decay
        )
        self._facts = {**asdict(schedule), **(facts or {})}
        self._step = 0
        self._sums: defaultdict[str, float] = defaultdict(float)  # since the last evaluation
        self._summed = 0
        self._lines: list[dict[str, Any]] = []
        self._spent_s = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def train(self) -> list[dict[str, Any]]:
        """Train to the end, and save.

        Returns:
            The lines of the log.

        Raises:
            StageError: a loss was not finite; names the examples of the step.
        """
        schedule = self._schedule
        began, saved = time.monotonic(), time.monotonic()
        spent = self._spent_s
        if not self._lines:
            self._evaluate()
        while self._step < schedule.steps:
            self._take_step()
            self._spent_s = spent + time.monotonic() - began
            due = self._step % schedule.evaluate_every == 0 or self._step == schedule.steps
            if due:
                self._evaluate()
            if due or time.monotonic() - saved > schedule.checkpoint_s:
                self._checkpoint()
                saved = time.monotonic()
        self._objective.save(self._folder)
        return self._lines

    def _take_step(self) -> None:
        schedule, names = self._schedule, []
        self._optimizer.zero_grad(set_to_none=True)
        for k in range(schedule.accumulate):
            rng = np.random.default_rng((schedule.seed, self._step, k))
            torch.manual_seed(int(rng.integers(2**31)))
            example = self._objective.example(rng)
            names.append(self._objective.name_of(example))
            losses = self._objective.losses(example)
            total = losses["total"] / schedule.accumulate
            total.backward()  # type: ignore[no-untyped-call]  # torch has not annotated it
            for name, loss in losses.items():
                self._sums[name] += float(loss.detach())
            self._summed += 1
        norm = float(nn.utils.clip_grad_norm_(self._parameters, schedule.clip))
        if not math.isfinite(norm):
            raise StageError(
                f"step {self._step}: the gradient is not finite; look at {', '.join(names)},"
                f" or lower the rate ({schedule.rate:g})",
                step=self._step,
            )
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.rate_at(self._step)
        self._optimizer.step()
        self._step += 1

    def _evaluate(self) -> None:
        figures = dict(self._objective.evaluate())
        trained = {f"train_{n}": s / self._summed for n, s in self._sums.items()}
        self._sums.clear()
        self._summed = 0
        self._lines.append({"step": self._step, **trained, **figures})
        self._write_log()
        told = "  ".join(f"{n} {v:.4g}" for n, v in self._lines[-1].items() if n != "step")
        left = self._schedule.steps - self._step
        eta = (
            f"  {_minutes(left * self._spent_s / self._step)} to go" if self._step and left else ""
        )
        self._tell(f"step {self._step}/{self._schedule.steps}  {told}{eta}")

    def _write_log(self) -> None:
        text = "".join(json.dumps(line) + "\n" for line in self._lines)
        for name, content in ((LOG, text), (CURVES, draw_curves(self._lines))):
            with replacing(self._folder / name) as beside:
                beside.write_text(content, encoding="utf-8")

    def _checkpoint(self) -> None:
        kept = {
            "facts": json.dumps(self._facts, sort_keys=True),
            "step": self._step,
            "parameters": [p.detach() for p in self._parameters],
            "optimizer": self._optimizer.state_dict(),
            "lines": json.dumps(self._lines),
            "sums": dict(self._sums),
            "summed": self._summed,
            "spent_s": self._spent_s,
        }
        with replacing(self._folder / CHECKPOINT) as beside:
            torch.save(kept, beside)

    def _resume(self) -> None:
        path = self._folder / CHECKPOINT
        if not path.exists():
            return
        try:
            kept = torch.load(path, weights_only=True)
        except Exception as error:  # the unpickler's errors share no base class
            raise ConfigError(f"{path} is damaged; delete it to begin anew") from error
        before = json.loads(kept["facts"])
        now = json.loads(json.dumps(self._facts))
        other = sorted(n for n in {*before, *now} if before.get(n) != now.get(n))
        if other:
            raise ConfigError(
                f"{path} is of a run with another {', '.join(other)}; give another --out, or"
                " delete it to begin anew"
            )
        with torch.no_grad():
            for parameter, value in zip(self._parameters, kept["parameters"], strict=True):
                parameter.copy_(value)
        self._optimizer.load_state_dict(kept["optimizer"])
        self._step, self._spent_s = kept["step"], kept["spent_s"]
        self._lines = json.loads(kept["lines"])
        self._sums.update(kept["sums"])
        self._summed = kept["summed"]
        self._tell(f"going on at step {self._step} of {self._schedule.steps}")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
