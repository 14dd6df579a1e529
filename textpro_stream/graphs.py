"""A step of fixed shapes as a CUDA graph: recorded once, then replayed without Python.

Off by default and NEVER RUN ON A GPU so far: none was at hand. The tests marked `gpu` are its
check; whoever has one runs them before anything is built on this. Knows no model: what it wraps
has to keep its shapes, read nothing back and write only into tensors that stay where they are
(`llm/session.py`, `fixed_step`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

Out = TypeVar("Out")  # a tensor, or several

WARM_UPS = 3  # before recording: libraries choose their kernels and take their memory meanwhile


class CapturedStep(Generic[Out]):
    """One step, recorded.

    Args:
        step: from tensors to tensors. Recording runs it too, so its state is then to be reset.
        inputs: an example of each input; their shapes, dtypes and device are those of all calls.
    """

    def __init__(self, step: Callable[..., Out], inputs: Sequence[Tensor]) -> None:
        self._inputs = [given.clone() for given in inputs]  # a replay reads these, always
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no annotation there
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # what is set up on the way must not be recorded
            for _ in range(WARM_UPS):
                step(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._out = step(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Out:
        """Run it on these inputs, without waiting for the device.

        Returns:
            The same tensors in every call; the next one overwrites them.
        """
        for held, given in zip(self._inputs, inputs, strict=True):
            held.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._out
