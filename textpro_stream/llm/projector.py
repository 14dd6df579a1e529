"""From Whisper's states to the LLM's width: a two-layer GELU perceptron.

Its tensors are found by shape, since the names in the released checkpoints are not published: one
(d_model, d_prosody) matrix and one (d_model, d_model) matrix that are not the LLM's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from textpro_stream.checkpoint import Checkpoint
from textpro_stream.errors import StageError, WeightsError
from textpro_stream.linear import linear
from textpro_stream.llm.weights import foreign_keys

LORA = "lora."  # begins what the LLM itself learnt, in the files that training writes


class Projector(nn.Module):
    """d_prosody -> d_model -> d_model.

    Loaded or made here, its parameters ask for no gradient; training says `requires_grad_()`.

    Args:
        up: weight (d_model, d_prosody), with or without bias.
        down: weight (d_model, d_model), with or without bias.
    """

    def __init__(self, up: nn.Linear, down: nn.Linear) -> None:
        super().__init__()
        self.up, self.down = up, down

    @property
    def d_prosody(self) -> int:
        """Width of the states it takes."""
        return self.up.in_features

    @property
    def d_model(self) -> int:
        """Width of the rows it gives."""
        return self.down.out_features

    def forward(self, pooled: Tensor) -> Tensor:
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
        weight = self.up.weight
        rows: Tensor = self.down(F.gelu(self.up(pooled.to(weight.device, weight.dtype))))
        return rows

    def save(
        self,
        path: Path,
        settings: Mapping[str, str] | None = None,
        *,
        lora: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Write a file that `[llm] projector` can name.

        Args:
            path: of the file.
            settings: go to its metadata.
            lora: what the LLM learnt along with it; kept in float16.
        """
        tensors = {f"projector.{name}": tensor for name, tensor in self.state_dict().items()}
        for name, tensor in (lora or {}).items():
            tensors[LORA + name] = tensor.to("cpu", torch.float16).contiguous()
        save_file(tensors, path, metadata=dict(settings or {}))


def random_projector(d_prosody: int, d_model: int, seed: int = 0) -> Projector:
    """An untrained one, rows about as large as an embedding: for tests and timing only."""
    random = torch.Generator().manual_seed(seed)

    def layer(d_in: int, size: float) -> nn.Linear:
        weight = torch.randn(d_model, d_in, generator=random) * (size / d_in**0.5)
        return linear(weight, torch.zeros(d_model))

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
    found = {
        key: checkpoint.shape(key) for key in foreign_keys(checkpoint) if not key.startswith(LORA)
    }
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

    def layer(key: str) -> nn.Linear:
        bias = checkpoint.read(_bias(key), (d_model,)) if _bias(key) in found else None
        return linear(checkpoint.read(key, found[key]), bias)

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
