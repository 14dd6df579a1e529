"""From Whisper's states to the LLM's width: a two-layer GELU perceptron.

Its tensors are found by shape, since the names in the released checkpoints are not published: one
(d_model, d_prosody) matrix and one (d_model, d_model) matrix that are not the LLM's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from textpro_stream.checkpoint import Checkpoint
from textpro_stream.errors import StageError, WeightsError
from textpro_stream.llm.weights import foreign_keys


@dataclass(frozen=True, slots=True, eq=False)
class Projector:
    """d_prosody -> d_model -> d_model."""

    up: tuple[Tensor, Tensor | None]  # weight (d_model, d_prosody), bias (d_model,)
    down: tuple[Tensor, Tensor | None]  # weight (d_model, d_model), bias (d_model,)

    @property
    def d_prosody(self) -> int:
        """Width of the states it takes."""
        return self.up[0].shape[1]

    @property
    def d_model(self) -> int:
        """Width of the rows it gives."""
        return self.down[0].shape[0]

    @torch.inference_mode()
    def __call__(self, pooled: Tensor) -> Tensor:
        """Pooled states (n, d_prosody) to rows (n, d_model).

        Raises:
            StageError: states of another width, so of another Whisper.
        """
        if pooled.shape[-1] != self.d_prosody:
            raise StageError(
                f"the projector takes states of width {self.d_prosody}, Whisper's are"
                f" {pooled.shape[-1]} wide; use the Whisper model that it was trained with",
                expected=self.d_prosody,
                found=pooled.shape[-1],
            )
        weight = self.up[0]
        hidden = F.gelu(F.linear(pooled.to(weight.device, weight.dtype), *self.up))
        return F.linear(hidden, *self.down)

    def to(self, device: torch.device, dtype: torch.dtype) -> Projector:
        """The same, elsewhere."""

        def move(pair: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
            weight, bias = pair
            return weight.to(device, dtype), None if bias is None else bias.to(device, dtype)

        return Projector(move(self.up), move(self.down))

    def save(self, path: Path, settings: Mapping[str, str] | None = None) -> None:
        """Write a file that `[llm] projector` can name; `settings` go to its metadata."""
        parts = {"up": self.up, "down": self.down}
        tensors = {f"projector.{name}.weight": pair[0] for name, pair in parts.items()}
        tensors |= {f"projector.{n}.bias": b for n, (_, b) in parts.items() if b is not None}
        save_file(tensors, path, metadata=dict(settings or {}))


def random_projector(d_prosody: int, d_model: int, seed: int = 0) -> Projector:
    """An untrained one, rows about as large as an embedding: for tests and timing only."""
    random = torch.Generator().manual_seed(seed)

    def layer(d_in: int, size: float) -> tuple[Tensor, Tensor]:
        weight = torch.randn(d_model, d_in, generator=random) * (size / d_in**0.5)
        return weight, torch.zeros(d_model)

    return Projector(layer(d_prosody, 1.0), layer(d_model, 0.1))


def find_projector(checkpoint: Checkpoint, d_model: int) -> Projector | None:
    """The projector among a checkpoint's tensors; None where there is nothing but an LLM.

    Args:
        checkpoint: of a file that holds only a projector, or of a folder with an LLM beside it.
        d_model: the LLM's width.

    Raises:
        WeightsError: more than one reading, or parts that a two-layer perceptron does not have.
    """
    where = checkpoint.folder
    found = {key: checkpoint.shape(key) for key in foreign_keys(checkpoint)}
    matrices = sorted((k for k, shape in found.items() if len(shape) == 2), key=_natural)
    if not matrices:
        return None
    squares = [key for key in matrices if found[key] == (d_model, d_model)]
    firsts = [k for k in matrices if found[k][0] == d_model and found[k][1] != d_model]
    if not firsts and len(squares) == 2:  # Whisper as wide as the LLM: the order tells
        firsts, squares = squares[:1], squares[1:]
    if len(firsts) != 1 or len(squares) != 1:
        listed = ", ".join(f"{key} {list(found[key])}" for key in matrices[:6])
        raise WeightsError(
            f"{where}: no single pair of matrices [{d_model}, d_prosody] and [{d_model}, {d_model}]"
            f" for the projector; found {listed}",
            folder=where,
            candidates=matrices,
        )
    first, second = firsts[0], squares[0]
    parts = {first, second, _bias(first), _bias(second)}
    parent = _common_parent(first, second)
    extra = [k for k in found if k not in parts and parent and k.startswith(parent)]
    if extra:
        raise WeightsError(
            f"{where}: {extra[0]} stands beside the projector, which is more than the two layers"
            " known here",
            folder=where,
            extra=extra,
        )

    def layer(key: str) -> tuple[Tensor, Tensor | None]:
        bias = _bias(key)
        return checkpoint.read(key, found[key]), (
            checkpoint.read(bias, (d_model,)) if bias in found else None
        )

    return Projector(layer(first), layer(second))


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def _common_parent(one: str, other: str) -> str:
    """The dotted path that both names share: `projector.` of projector.0.weight and .2.weight."""
    shared: list[str] = []
    for a, b in zip(one.split("."), other.split("."), strict=False):
        if a != b:
            break
        shared.append(a)
    return ".".join(shared) + "." if shared else ""


def _natural(key: str) -> list[tuple[int, str]]:
    """Sort key that puts layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", key)]
