"""Keys and values of what conversations have heard and said: storage, and a forward's views of it.

A conversation takes a slot and holds it as long as it lives. On the CPU each slot is memory of its
own, taken as pages are touched and given back with the slot. On a GPU slots stand side by side in
blocks, so that one captured step of fixed shapes can serve all slots of a block.
Knows neither which positions are final nor which tokens are committed: rows behind those that a
caller still counts are scratch, and the next step overwrites them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from textpro_stream.slots import SlotBlock, SlotPool
from textpro_stream.whisper.host import to_device
from textpro_stream.whisper.model import Dimensions, Seen


class WhisperCache(SlotBlock):
    """One block of slots.

    Args:
        dims: of the model.
        slots: conversations that fit.
        dtype: of the model.
        device: of the model.
        layers: of the encoder whose output is kept for prosody.
    """

    def __init__(
        self,
        dims: Dimensions,
        slots: int,
        dtype: torch.dtype,
        device: torch.device,
        layers: tuple[int, ...] = (),
    ) -> None:
        super().__init__(slots)
        self.layers = layers
        make = self.factory
        head = dims.n_heads, dims.d_head
        encoder, decoder = dims.n_encoder_layers, dims.n_decoder_layers

        def held(n_layers: int, n_rows: int) -> Tensor:
            """(2, layer, slot, head, row, d_head): keys, then values."""
            shape = (2, n_layers, slots, head[0], n_rows, head[1])
            return make(shape, dtype=dtype, device=device)

        with torch.inference_mode(False):  # written in any mode, whoever opened it
            self.encoder = held(encoder, dims.n_positions)
            self.decoder = held(decoder, dims.n_context)
            self.cross = held(decoder, dims.n_positions)  # the decoder's, of the audio
            # the kept layers' outputs, side by side
            kept = (slots, dims.n_positions, len(layers) * dims.d_model)
            self.outputs = make(kept, dtype=dtype, device=device)
            self.places = torch.arange(max(dims.n_positions, dims.n_context), device=device)


class Slot:
    """One conversation's share of a block.

    Args:
        cache: the block.
        index: which.
    """

    def __init__(self, cache: WhisperCache, index: int) -> None:
        self.cache, self.index = cache, index
        # keys and values (1, n_heads, rows, d_head) by layer: cut once, not per step and layer
        self.encoder = _by_layer(cache.encoder, index)
        self.decoder = _by_layer(cache.decoder, index)
        self.cross = _by_layer(cache.cross, index)
        self.outputs = cache.outputs[index]  # (n_positions, n_layers * d_model)

    def hear(self, rows: Tensor, at: int, outputs: Sequence[Tensor] = ()) -> None:
        """Write what the decoder and prosody read of the audio, from position `at` on.

        Args:
            rows: keys and values (2, layer, 1, n_heads, n, d_head).
            at: the first position.
            outputs: (n, d_model) of each kept layer of the encoder.
        """
        end = at + rows.shape[4]
        self.cache.cross[:, :, self.index, :, at:end] = rows[:, :, 0]
        if outputs:
            self.outputs[at:end] = outputs[0] if len(outputs) == 1 else torch.cat([*outputs], 1)


def _by_layer(held: Tensor, index: int) -> list[tuple[Tensor, Tensor]]:
    keys, values = held[:, :, index, None]
    return list(zip(keys.unbind(0), values.unbind(0), strict=True))


class Pool(SlotPool[WhisperCache, Slot]):
    """The recogniser's slots.

    Args:
        dims: of the model.
        dtype: of the model.
        device: of the model.
        slots: of a block.
        layers: of the encoder whose output is kept for prosody.
    """

    def __init__(
        self,
        dims: Dimensions,
        dtype: torch.dtype,
        device: torch.device,
        slots: int = 1,
        layers: tuple[int, ...] = (),
    ) -> None:
        super().__init__(Slot)
        self._dims, self._dtype, self._device, self._slots = dims, dtype, device, slots
        self._layers = layers

    def take(self) -> Slot:
        """A slot; it goes back when nobody holds it any more."""
        return self._take(
            lambda _: True,
            lambda: WhisperCache(self._dims, self._slots, self._dtype, self._device, self._layers),
        )


class EncoderAppend:
    """The view of one slot: positions start .. start+n, which see each other and all before."""

    def __init__(self, slot: Slot, start: int, n: int) -> None:
        self._layers, self._start, self._n = slot.encoder, start, n
        self.end, self.device = start + n, slot.cache.encoder.device
        self.positions = slice(start, self.end)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Write behind the rows held."""
        held_keys, held_values = self._layers[layer]
        held_keys.narrow(2, self._start, self._n).copy_(keys)
        held_values.narrow(2, self._start, self._n).copy_(values)
        return [Seen(held_keys.narrow(2, 0, self.end), held_values.narrow(2, 0, self.end))]


class EncoderTogether:
    """The view of several slots, each as far as it is: products are shared, attention is not.

    Args:
        views: with equally many new positions.
    """

    def __init__(self, views: Sequence[EncoderAppend]) -> None:
        self._views = views
        places = np.stack([np.arange(view.positions.start, view.end) for view in views])
        self.positions = to_device(places, views[0].device)  # (b, n)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Write behind each slot's rows."""
        n = len(self._views)
        batch = zip(self._views, keys.chunk(n), values.chunk(n), strict=True)
        return [seen for view, k, v in batch for seen in view.append(layer, k, v)]


class EncoderFixed:
    """The view of all slots of a block at once, n positions each, in shapes that never change.

    What a captured step reads: where rows stand is a tensor, so that a replay may find them
    elsewhere. A slot with fewer new positions fills up with anything: rows behind its `ends` are
    seen by nobody and overwritten by its next step. They have to fit: starts + n <= n_positions.

    Args:
        cache: the block.
        starts: (slots,) of the first new position, on the device.
        ends: (slots,) behind the last one, on the device.
        n: positions.
    """

    def __init__(self, cache: WhisperCache, starts: Tensor, ends: Tensor, n: int) -> None:
        self._held = cache.encoder
        self.positions = starts[:, None] + cache.places[:n]  # (slots, n)
        places = cache.places[: cache.encoder.shape[4]]
        self._mask = (places < ends[:, None])[:, None, None]  # (slots, 1, 1, n_positions)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Write at the positions; the mask hides what stands behind them."""
        held_keys, held_values = _scatter(self._held[:, layer], self.positions, keys, values)
        return [Seen(held_keys, held_values, self._mask)]


class DecoderAppend:
    """The view of one slot: n tokens behind `start` others, which see what was said before them.

    Args:
        slot: whose.
        start: place of the first in the decoder's context.
        n: tokens.
        n_positions: of audio that they see.
    """

    def __init__(self, slot: Slot, start: int, n: int, n_positions: int) -> None:
        self._slot, self._start, self._n, self._heard = slot, start, n, n_positions
        self._end = start + n
        self.positions = slice(start, self._end)
        self._mask: Tensor | None = None  # one token sees everything
        if n > 1:
            places = slot.cache.places[: self._end]
            self._mask = places <= places[start:, None]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Write behind the rows held."""
        held_keys, held_values = self._slot.decoder[layer]
        held_keys.narrow(2, self._start, self._n).copy_(keys)
        held_values.narrow(2, self._start, self._n).copy_(values)
        end = self._end
        return [Seen(held_keys.narrow(2, 0, end), held_values.narrow(2, 0, end), self._mask)]

    def cross(self, layer: int) -> Seen:
        """Of the audio heard so far."""
        keys, values = self._slot.cross[layer]
        return Seen(keys.narrow(2, 0, self._heard), values.narrow(2, 0, self._heard))


class DecoderFixed:
    """The view of all slots of a block, one token each, in shapes that never change.

    A slot that has nothing to say takes part with any token at its own end.

    Args:
        cache: the block.
        positions: (slots,) of the tokens in their contexts, on the device.
        n_positions: (slots,) of audio that they see, at least 1, on the device.
    """

    def __init__(self, cache: WhisperCache, positions: Tensor, n_positions: Tensor) -> None:
        self._cache = cache
        self.positions = positions[:, None]  # (slots, 1)
        said, heard = cache.decoder.shape[4], cache.cross.shape[4]
        self._said = (cache.places[:said] <= self.positions)[:, None, None]
        self._heard = (cache.places[:heard] < n_positions[:, None])[:, None, None]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Write at the positions."""
        held = _scatter(self._cache.decoder[:, layer], self.positions, keys, values)
        return [Seen(*held, self._said)]

    def cross(self, layer: int) -> Seen:
        """Of the audio heard so far."""
        keys, values = self._cache.cross[:, layer]
        return Seen(keys, values, self._heard)


def _scatter(
    held: Tensor, positions: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor]:
    """Write keys and values (slots, n_heads, n, d_head) at positions (slots, n)."""
    index = positions[:, None, :, None].expand(keys.shape)
    held_keys, held_values = held
    held_keys.scatter_(2, index, keys)
    held_values.scatter_(2, index, values)
    return held_keys, held_values
