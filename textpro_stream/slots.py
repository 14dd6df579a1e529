"""Slots of a model's caches: who holds which, and when memory goes back.

A conversation takes a slot and holds it as long as it lives; nobody has to give it back. Knows
nothing of what a slot holds.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor


class SlotBlock:
    """Memory for several conversations, side by side.

    Args:
        slots: conversations that fit.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.free = list(range(slots))[::-1]  # indices, the next one last

    @property
    def factory(self) -> Callable[..., Tensor]:
        """What makes its tensors.

        A step of fixed shapes reads rows that nobody wrote, and 0 times NaN would be NaN. A slot
        alone is read as far as it is filled: pages that are never touched cost nothing.
        """
        return torch.zeros if self.slots > 1 else torch.empty


B = TypeVar("B", bound=SlotBlock)
S = TypeVar("S")


class SlotPool(Generic[B, S]):
    """A model's slots. A block's memory is given back with the last of its slots.

    Args:
        slot: makes one of a block and the index in it.
    """

    def __init__(self, slot: Callable[[B, int], S]) -> None:
        self.blocks: list[B] = []
        self._slot = slot

    def _take(self, fits: Callable[[B], bool], make: Callable[[], B]) -> S:
        """A slot of a block that fits, made where there is none.

        It goes back when nobody holds it any more.
        """
        block = next((block for block in self.blocks if block.free and fits(block)), None)
        if block is None:
            block = make()
            self.blocks.append(block)
        index = block.free.pop()
        slot = self._slot(block, index)
        weakref.finalize(slot, self._release, block, index).atexit = False
        return slot

    def _release(self, block: B, index: int) -> None:
        block.free.append(index)
        if len(block.free) == block.slots:
            self.blocks.remove(block)
