"""Keys and values of what conversations have said: storage, and a forward's views of it.

A conversation takes a slot and holds it as long as it lives. On the CPU each slot is memory of its
own, taken as pages are touched and given back with the slot. On a GPU slots stand side by side in
blocks, so that one captured step of fixed shapes can serve all slots of a block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from textpro_stream.llm.model import Dimensions, Seen, mask_of
from textpro_stream.slots import SlotBlock, SlotPool


class KvCache(SlotBlock):
    """One block of slots.

    Args:
        dims: of the model.
        slots: conversations that fit.
        capacity: rows that fit into each.
        dtype: of the model.
        device: of the model.
    """

    def __init__(
        self, dims: Dimensions, slots: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(slots)
        self.capacity = capacity
        self.group = dims.n_heads // dims.n_kv_heads  # heads that share keys
        make = self.factory
        held = (dims.n_layers, slots, dims.n_kv_heads, capacity, dims.d_head)
        with torch.inference_mode(False):  # written in any mode, whoever opened it
            self.keys = make(held, dtype=dtype, device=device)
            self.values = make(held, dtype=dtype, device=device)
            # The last states of every row: looking at logits after a crop costs no second pass.
            self.states = make((slots, capacity, dims.d_model), dtype=dtype, device=device)
            self.places = torch.arange(capacity, device=device)


class Slot:
    """One conversation's share of a block.

    Args:
        cache: the block.
        index: which.
    """

    def __init__(self, cache: KvCache, index: int) -> None:
        self.cache, self.index = cache, index
        # (1, n_kv_heads, capacity, d_head) each: cut once, not per step and layer
        keys, values = (held[:, index, None] for held in (cache.keys, cache.values))
        self.layers = list(zip(keys.unbind(0), values.unbind(0), strict=True))
        self.states = cache.states[index]  # (capacity, d_model)


class Pool(SlotPool[KvCache, Slot]):
    """The language model's slots.

    Args:
        dims: of the model.
        dtype: of the model.
        device: of the model.
        slots: of a block.
    """

    def __init__(
        self, dims: Dimensions, dtype: torch.dtype, device: torch.device, slots: int = 1
    ) -> None:
        super().__init__(Slot)
        self._dims, self._dtype, self._device, self._slots = dims, dtype, device, slots

    def take(self, capacity: int) -> Slot:
        """A slot of at least `capacity` rows; it goes back when nobody holds it any more."""
        return self._take(
            lambda block: block.capacity >= capacity,
            lambda: KvCache(self._dims, self._slots, capacity, self._dtype, self._device),
        )


class Append:
    """The view of one slot: n rows behind the `start` that it holds."""

    def __init__(self, slot: Slot, start: int, n: int) -> None:
        self.slot, self.start, self.reach = slot, start, start + n
        self.positions = slice(start, self.reach)
        self._n = n
        self._mask: Tensor | None = None  # one row sees everything
        if n > 1:
            cache = slot.cache
            places = cache.places[: self.reach]
            seen = places <= places[start:, None]  # (n, reach)
            self._mask = mask_of(seen, cache.keys.dtype).repeat(cache.group, 1)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Write behind the rows held; all up to the last new one are seen."""
        held_keys, held_values = self.slot.layers[layer]
        held_keys.narrow(2, self.start, self._n).copy_(keys)
        held_values.narrow(2, self.start, self._n).copy_(values)
        reach = self.reach
        return [(held_keys.narrow(2, 0, reach), held_values.narrow(2, 0, reach), self._mask)]


class Together:
    """The view of several slots, each as far as it is: products are shared, attention is not.

    Args:
        views: with equally many new rows.
    """

    def __init__(self, views: Sequence[Append]) -> None:
        self._views = views
        self.reach = max(view.reach for view in views)
        places = [list(range(view.start, view.reach)) for view in views]
        device = views[0].slot.cache.keys.device
        self.positions = torch.tensor(places).to(device, non_blocking=True)  # (b, n)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Write behind each slot's rows."""
        n = len(self._views)
        batch = zip(self._views, keys.chunk(n), values.chunk(n), strict=True)
        return [seen for view, k, v in batch for seen in view.append(layer, k, v)]


class Fixed:
    """The view of all slots of a block at once, one new row each, in shapes that never change.

    What a captured step reads: where the rows stand is a tensor, so that a replay may find them
    elsewhere. A slot that has nothing to say takes part with any token at its own end; the row
    written there is overwritten by its next one.

    Args:
        cache: the block.
        positions: (slots,) of the new rows, on the device.
    """

    def __init__(self, cache: KvCache, positions: Tensor) -> None:
        self._cache, self.reach = cache, cache.capacity
        self.positions = positions[:, None]  # (slots, 1)
        seen = cache.places <= self.positions  # (slots, capacity)
        self._mask = mask_of(seen, cache.keys.dtype)[:, None, None]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Write at the positions; the mask hides what stands behind them."""
        index = self.positions[:, :, None, None].expand(keys.shape)
        held_keys, held_values = self._cache.keys[layer], self._cache.values[layer]
        held_keys.scatter_(2, index, keys)
        held_values.scatter_(2, index, values)
        return [(held_keys, held_values, self._mask)]
