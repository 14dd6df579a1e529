"""Low-rank adapters: what training adds to a model's matrix products (Hu et al., LoRA, 2021).

A product W x becomes W x + scale B A x, with A (rank, d_in) and B (d_out, rank); only A and B are
trained. In use nothing of it is left: a file of adapters is merged into W when weights are loaded,
before they are quantised, so an adapted model costs what the plain one does.

A file holds `NAME.lora_a` and `NAME.lora_b` for each adapted product, by its dotted name, and in
its metadata the scale and which model it was made for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textpro_stream.checkpoint import Checkpoint
from textpro_stream.errors import WeightsError

FORMAT = "textpro-stream lora 1"
A, B = ".lora_a", ".lora_b"


class LoraLinear(nn.Module):
    """A product that learns: the old one, frozen, and a low-rank sum beside it.

    Args:
        base: the product.
        rank: of what is added.
        scale: of what is added; begins as nothing, since B does.
        generator: of A's first numbers.
    """

    def __init__(
        self, base: nn.Linear, rank: int, scale: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        d_out, d_in = base.weight.shape
        drawn = torch.randn(rank, d_in, generator=generator) * d_in**-0.5
        self.lora_a = nn.Parameter(drawn.to(base.weight))
        self.lora_b = nn.Parameter(torch.zeros(d_out, rank).to(base.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Rows x (..., d_in) to (..., d_out)."""
        plain: Tensor = self.base.forward(x)
        return plain + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)


def add_lora(
    module: nn.Module,
    rank: int,
    *,
    scale: float = 1.0,
    seed: int = 0,
    wanted: Callable[[str], bool] = lambda name: True,
) -> None:
    """Put a `LoraLinear` around the `nn.Linear`s below `module`, in place.

    Args:
        module: its own parameters stay as they are, frozen or not.
        rank: 1 or more.
        scale: see `LoraLinear`.
        seed: of the first numbers.
        wanted: told each product's dotted name below `module`; those it refuses stay plain.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, child in list(module.named_modules()):
        if name and isinstance(child, nn.Linear) and wanted(name):
            above, _, own = name.rpartition(".")
            made = LoraLinear(child, rank, scale, generator)
            setattr(module.get_submodule(above), own, made)


def lora_tensors(module: nn.Module) -> dict[str, Tensor]:
    """What the adapters below `module` have learnt, by the names that a file gives them."""
    found: dict[str, Tensor] = {}
    for name, child in module.named_modules():
        if isinstance(child, LoraLinear):
            found[name + A] = child.lora_a.detach()
            found[name + B] = child.lora_b.detach()
    return found


def fingerprint(anchor: Tensor) -> str:
    """Tells one model's weights from another's by one tensor that training leaves alone."""
    raw = anchor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    return hashlib.sha256(raw).hexdigest()[:16]


def save_lora(path: Path, tensors: Mapping[str, Tensor], *, scale: float, base: str) -> None:
    """Write an adapter's file, in float16.

    Args:
        path: of the file.
        tensors: as `lora_tensors` gives them.
        scale: with which they were trained.
        base: `fingerprint` of the model that they were trained on.
    """
    from safetensors.torch import save_file

    small = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(small, path, metadata={"format": FORMAT, "scale": repr(scale), "base": base})


@dataclass(frozen=True, slots=True)
class Adapter:
    """A file of low-rank adapters.

    Attributes:
        base: `fingerprint` of the model that it was made for.
    """

    path: Path
    base: str
    scale: float
    tensors: Mapping[str, Tensor]

    @staticmethod
    def read(path: Path) -> Adapter:
        """Read one.

        Raises:
            WeightsError: missing, damaged, or no file of adapters.
        """
        if not path.is_file():
            raise WeightsError(f"{path}: no such adapter; give a file made by textpro train")
        checkpoint = Checkpoint(path)
        told = checkpoint.metadata
        if told.get("format") != FORMAT:
            raise WeightsError(
                f"{path}: not an adapter of this program; give a file made by textpro train",
                path=path,
            )
        tensors = {name: checkpoint.read(name, checkpoint.shape(name)) for name in checkpoint}
        return Adapter(path, told["base"], float(told["scale"]), tensors)

    def below(self, prefix: str) -> Adapter:
        """Those of the products whose names begin so, by what is left of the names."""
        own = {n.removeprefix(prefix): t for n, t in self.tensors.items() if n.startswith(prefix)}
        return replace(self, tensors=own)

    def merge(self, module: nn.Module) -> None:
        """Add what was learnt to the products below `module`, in place.

        Raises:
            WeightsError: a product that the module lacks, or of another size.
        """
        names = {name.removesuffix(A) for name in self.tensors if name.endswith(A)}
        products = {n: m for n, m in module.named_modules() if isinstance(m, nn.Linear)}
        for name in sorted(names):
            a, b = self.tensors[name + A].float(), self.tensors[name + B].float()
            product = products.get(name)
            if product is None or product.weight.shape != (len(b), a.shape[1]):
                raise WeightsError(
                    f"{self.path}: {name} does not fit this model; give the adapter made for it",
                    path=self.path,
                )
            weight = product.weight
            with torch.no_grad():
                weight.add_((self.scale * (b @ a)).to(weight.device, weight.dtype))
