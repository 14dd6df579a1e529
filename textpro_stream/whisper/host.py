"""The way between host and device. On a GPU nothing here waits but for what it brings.

A read that waits makes a GPU finish its work before more can be launched, for every conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(array: NDArray[Any] | Sequence[int], device: torch.device) -> Tensor:
    """Carry numbers over; on a GPU from pinned memory, behind the work already launched."""
    tensor = torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.tensor(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # the caching allocator keeps it until the copy is done
    return tensor.to(device, non_blocking=True)


class Pending:
    """A float32 tensor on its way to the host, looked at later.

    By then the decoder's own read has waited for all that was launched before, so this one does not
    wait again.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._host = tensor.to("cpu", non_blocking=True)  # into pinned memory, from a GPU
        self._event: torch.cuda.Event | None = None
        if tensor.device.type == "cuda":
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's own
            self._event.record(torch.cuda.current_stream(tensor.device))

    def numpy(self) -> NDArray[np.float32]:
        """The numbers, once they are there."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        array: NDArray[np.float32] = self._host.numpy()
        return array
