"""Matrix products of both models behind one door: floating point, or int8 weights on the CPU.

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
from torch import Tensor

Linear = Callable[[Tensor], Tensor]  # (n, d_in) -> (n, d_out)


def linear(weight: Tensor, bias: Tensor | None = None, *, int8: bool = False) -> Linear:
    """A product with `weight` (d_out, d_in), in the dtype it is given in.

    Args:
        weight: (d_out, d_in).
        bias: (d_out,) or None.
        int8: quantise; float32 activations on the CPU only.
    """
    if int8:
        return Int8Linear(weight, bias)
    return lambda x: F.linear(x, weight, bias)


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


class Int8Linear:
    """Weights int8 per output channel, activations int8 per row.

    torch quantises a call's activations with one scale. The first rows of a prompt carry values
    hundreds of times larger than the others, which would then share a few steps; so each row is
    brought to the same size first. It also keeps a row's result nearly free of its neighbours.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        weight = weight.float()
        low, high = torch.aminmax(weight, dim=1)  # a third of the time of abs().amax()
        scale = (torch.maximum(-low, high) / 127.0).clamp_min_(1e-12)
        zero = torch.zeros(len(scale), dtype=torch.long)
        _announce()
        quantised = torch.quantize_per_channel(weight, scale.double(), zero, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(quantised, None)
        self._product: Callable[[Tensor, object, bool], Tensor] = torch.ops.quantized.linear_dynamic
        # 7-bit activations, which CPUs without VNNI need to stay clear of overflow
        self._reduce_range = not torch.cpu._is_vnni_supported()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """Rows x (n, d_in) to (n, d_out)."""
        if x.shape[0] == 1:  # one row is its own scale
            out = self._product(x, self._packed, self._reduce_range)
        else:
            size = x.abs().amax(dim=-1, keepdim=True).clamp_min_(1e-12)
            out = self._product(x / size, self._packed, self._reduce_range).mul_(size)
        return out if self._bias is None else out.add_(self._bias)


class Vocabulary:
    """Hidden states to logits over the vocabulary.

    Where the product is int8, the best `RESCORED` rows are computed again in float32, so that
    the greedy winner is the float32 winner unless it was not among them.
    """

    RESCORED = 8

    def __init__(self, weight: Tensor, *, int8: bool) -> None:
        self._weight = weight  # (n_vocabulary, d_model), the file's dtype where int8
        self._int8 = int8
        self._product = linear(weight, int8=int8)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits, float32, shape (n, n_vocabulary), of hidden (n, d_model)."""
        if self._int8:
            hidden = hidden.float()  # whatever the layers in front of it compute in
        logits = self._product(hidden).float()
        if self._int8:
            best = logits.topk(min(self.RESCORED, logits.shape[-1]), dim=-1).indices  # (n, 8)
            exact = (self._weight[best].float() * hidden[:, None]).sum(-1)
            logits.scatter_(-1, best, exact)
        return logits
