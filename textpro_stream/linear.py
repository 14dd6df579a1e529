"""The matrix products of both models: `nn.Linear`, or its int8 twin on the CPU.

A model is built and trained with `nn.Linear`; `quantise` then swaps those products in place.
Figures (one thread of a Zen 5): decoding one token of SmolLM2-135M moves 106 MB of int8 layers
instead of 425 MB of float32, and its vocabulary costs 0.8 ms instead of 7.6.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """An `nn.Linear` around tensors that are there already; nothing is copied or initialised.

    Args:
        weight: (d_out, d_in).
        bias: (d_out,) or None.
    """
    d_out, d_in = weight.shape
    made = nn.Linear(d_in, d_out, bias=bias is not None, device="meta")
    made.weight = frozen(weight)
    if bias is not None:
        made.bias = frozen(bias)
    return made


def frozen(tensor: Tensor) -> nn.Parameter:
    """A parameter that asks for no gradient, as all loaded ones: whoever trains unfreezes."""
    return nn.Parameter(tensor, requires_grad=False)


def quantise(module: nn.Module, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Replace the `nn.Linear`s below `module` by int8 ones, in place and for good.

    Args:
        module: on the CPU; its float weights are let go one by one.
        wanted: told each product's dotted name below `module`; those it refuses stay.
    """
    for name, child in list(module.named_modules()):
        if name and isinstance(child, nn.Linear) and wanted(name):
            above, _, own = name.rpartition(".")
            setattr(module.get_submodule(above), own, Int8Linear(child))


_announcing = threading.Lock()


def _announce() -> None:
    """Let torch 2.13 announce, once and unheard, that quantising will move; the lock pins 2.13.

    Models are packed in several threads, and filters of warnings are not safe in them.
    """
    with _announcing:
        _announced()


@cache
def _announced() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        one, zero = torch.ones(1, dtype=torch.double), torch.zeros(1, dtype=torch.long)
        quantised = torch.quantize_per_channel(torch.ones(1, 1), one, zero, 0, torch.qint8)
        torch.ops.quantized.linear_prepack(quantised, None)


class Int8Linear(nn.Module):
    """Weights int8 per output channel, activations int8 per row. For inference only.

    torch quantises a call's activations with one scale. The first rows of a prompt carry values
    hundreds of times larger than the others, which would then share a few steps; so each row is
    brought to the same size first. It also keeps a row's result nearly free of its neighbours.

    Args:
        source: the product to take over, on the CPU.
    """

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        weight = source.weight.detach().float()
        low, high = torch.aminmax(weight, dim=1)  # a third of the time of abs().amax()
        scale = (torch.maximum(-low, high) / 127.0).clamp_min_(1e-12)
        zero = torch.zeros(len(scale), dtype=torch.long)
        _announce()
        quantised = torch.quantize_per_channel(weight, scale.double(), zero, 0, torch.qint8)
        # Neither parameter nor buffer: a packed matrix can be neither moved nor saved.
        self._packed = torch.ops.quantized.linear_prepack(quantised, None)
        # The overload itself: choosing it anew in each call costs as much as a small operation.
        self._product: Callable[[Tensor, object, bool], Tensor]
        self._product = torch.ops.quantized.linear_dynamic.default
        # 7-bit activations, which CPUs without VNNI need to stay clear of overflow
        self._reduce_range = not torch.cpu._is_vnni_supported()
        self._bias = None if source.bias is None else source.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """Rows x (..., d_in) to (..., d_out)."""
        if x.numel() == x.shape[-1]:  # one row is its own scale
            out: Tensor = self._product(x, self._packed, self._reduce_range)
        else:
            size = x.abs().amax(dim=-1, keepdim=True).clamp_min_(1e-12)
            out = self._product(x / size, self._packed, self._reduce_range).mul_(size)
        if self._bias is not None:
            out.add_(self._bias)
        return out

    __call__ = forward  # 120 calls a token: what a module's own call adds is for training


class Vocabulary(nn.Module):
    """Hidden states to logits over the vocabulary.

    Where the product is int8, the best `RESCORED` rows are computed again in float32, so that
    the greedy winner is the float32 winner unless it was not among them.

    Args:
        weight: (n_vocabulary, d_model); an embedding's own parameter where the two are tied. In
            int8 the file's dtype is exact and small.
        int8: quantise.
    """

    RESCORED = 8

    def __init__(self, weight: Tensor, *, int8: bool) -> None:
        super().__init__()
        self.weight = weight if isinstance(weight, nn.Parameter) else frozen(weight)
        self._rough = Int8Linear(linear(weight)) if int8 else None

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits, float32, shape (..., n_vocabulary), of hidden (..., d_model)."""
        if self._rough is None:
            return F.linear(hidden, self.weight).float()
        hidden = hidden.float()  # whatever the layers in front of it compute in
        logits: Tensor = self._rough(hidden)
        best = logits.topk(min(self.RESCORED, logits.shape[-1]), dim=-1).indices  # (..., 8)
        exact = (self.weight[best].float() * hidden.unsqueeze(-2)).sum(-1)
        return logits.scatter_(-1, best, exact)
