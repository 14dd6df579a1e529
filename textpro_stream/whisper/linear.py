"""Matrix products behind one door: floating point, or int8 weights on the CPU.

int8 is dynamic: weights per output channel, activations per call. Measured on two Zen 5 cores for
the vocabulary of tiny.en, it takes a tenth of the time of float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Linear = Callable[[Tensor], Tensor]  # (..., d_in) -> (..., d_out)


def linear(weight: Tensor, bias: Tensor | None, *, int8: bool = False) -> Linear:
    """A product with `weight` (d_out, d_in).

    Args:
        weight: in the dtype it is to be used in.
        bias: (d_out,) or None.
        int8: quantise the weights per output channel; CPU and float32 activations only.
    """
    if not int8:
        return lambda x: F.linear(x, weight, bias)
    scale = (weight.abs().amax(dim=1) / 127.0).clamp_min(1e-12)
    zero = torch.zeros(len(scale), dtype=torch.long)
    with warnings.catch_warnings():
        # Announced to go in a later torch; ours is pinned, and users can do nothing about it.
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
        quantised = torch.quantize_per_channel(weight.float(), scale.double(), zero, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(quantised, bias)
    product: Callable[[Tensor, object, bool], Tensor] = torch.ops.quantized.linear_dynamic
    # reduce_range: 7-bit activations, which CPUs without VNNI need to stay clear of overflow
    reduce_range = not torch.cpu._is_vnni_supported()
    return lambda x: product(x, packed, reduce_range)


class Vocabulary:
    """Hidden states to logits over the vocabulary.

    On the CPU the product is int8 and the best `RESCORED` rows are computed again in float32, so
    that the winner is the float32 winner (it was on every token of the development clips).
    """

    RESCORED = 8

    def __init__(self, embedding: Tensor, *, int8: bool) -> None:
        self._embedding = embedding  # (n_vocabulary, d_model)
        self._product = linear(embedding, None, int8=int8)
        self._int8 = int8

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits, float32, shape (n, n_vocabulary), of hidden (n, d_model)."""
        if not self._int8:
            return self._product(hidden).float()
        hidden = hidden.float()  # the int8 product takes nothing else
        logits = self._product(hidden)
        best = logits.topk(self.RESCORED, dim=-1).indices  # (n, 8)
        exact = (self._embedding[best] * hidden[:, None]).sum(-1)
        return logits.scatter_(-1, best, exact)
