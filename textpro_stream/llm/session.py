"""Conversations over a Llama: append, crop, look, decode; alone, or several in one step.

The step is our own: on one thread the library's per-step overhead cost more than the arithmetic
(54 ms a token under transformers, SmolLM2-135M). A step writes into a slot and grows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from textpro_stream.errors import StageError
from textpro_stream.llm.kv import Append, Fixed, KvCache, Pool, Slot, Together
from textpro_stream.llm.model import Llama


class LlamaBackbone:
    """A Llama and the slots of its conversations.

    Args:
        model: shared, never written.
        slots: that stand side by side in memory. On the CPU 1: a conversation's memory is its own.
    """

    def __init__(self, model: Llama, slots: int = 1) -> None:
        self.model = model
        self.pool = Pool(model.dims, model.dtype, model.device, slots)

    @property
    def d_model(self) -> int:
        """Width of a row."""
        return self.model.dims.d_model

    @property
    def n_vocabulary(self) -> int:
        """Rows of the embedding."""
        return self.model.dims.n_vocabulary

    @property
    def context(self) -> int:
        """Rows that the model was trained for."""
        return self.model.dims.context

    def embed(self, ids: list[int]) -> Tensor:
        """Rows (n, d_model) of token ids, without waiting for the device."""
        index = torch.tensor(ids, dtype=torch.long).to(self.model.device, non_blocking=True)
        return self.model.embed(index)

    def open(self, capacity: int) -> KvSession:
        """A fresh cache for one conversation."""
        return KvSession(self, self.pool.take(capacity), capacity)

    def decode_together(self, sessions: Sequence[KvSession], tokens: Sequence[int]) -> None:
        """Append one token to each session, in one step; their logits are made as well.

        Four together take 1.6 times the time of one on a CPU (docs/notes/0009).

        Args:
            sessions: opened here, no two the same.
            tokens: one for each.

        Raises:
            StageError: one has no room; nothing was appended.
        """
        view = Together([session.view(1) for session in sessions])
        states = self.model(self.embed(list(tokens))[:, None], view)  # (b, 1, d_model)
        logits = self.model.vocabulary(states[:, 0])
        for session, own, following in zip(sessions, states, logits, strict=True):
            session.keep(own, following)


class KvSession:
    """`contracts.Session` over a slot.

    Args:
        backbone: of the slot.
        slot: this conversation's.
        capacity: rows that fit.
    """

    def __init__(self, backbone: LlamaBackbone, slot: Slot, capacity: int) -> None:
        self.capacity = capacity
        self._backbone, self._slot = backbone, slot
        self._length = 0
        self._logits: Tensor | None = None  # after the last row, where a step has made them

    @property
    def length(self) -> int:
        """Rows held."""
        return self._length

    def crop(self, length: int) -> None:
        """Keep the first `length` rows."""
        assert 0 <= length <= self._length, f"crop to {length} of {self._length}"
        if length < self._length:
            self._length, self._logits = length, None

    def prefill(self, rows: Tensor) -> None:
        """Append rows (n, d_model) in one pass.

        Raises:
            StageError: they do not fit; nothing was appended.
        """
        if len(rows):
            view = self.view(len(rows))
            model = self._backbone.model
            self.keep(model(rows.to(model.dtype)[None], view)[0])

    def decode(self, token: int) -> None:
        """Append one token's row."""
        self.prefill(self._backbone.embed([token]))

    def logits(self) -> Tensor:
        """Next-token logits after the last row, float32, shape (n_vocabulary,)."""
        assert self._length, "no row has been prefilled"
        if self._logits is None:
            last = self._slot.states[self._length - 1 : self._length]
            self._logits = self._backbone.model.vocabulary(last)[0]
        return self._logits

    def logits_of(self, n: int) -> Tensor:
        """Next-token logits after each of the last n rows, float32, (n, n_vocabulary)."""
        assert 0 < n <= self._length, f"{n} of {self._length} rows"
        states = self._slot.states[self._length - n : self._length]
        found: Tensor = self._backbone.model.vocabulary(states)
        return found

    def view(self, n: int) -> Append:
        """Where n more rows go.

        Raises:
            StageError: they do not fit.
        """
        check_room(self._length, n, self.capacity)
        return Append(self._slot, self._length, n)

    def keep(self, states: Tensor, logits: Tensor | None = None) -> None:
        """Count the rows of a step in.

        Args:
            states: (n, d_model), its last hidden states.
            logits: (n_vocabulary,) after the last row, if they are known.
        """
        end = self._length + len(states)
        self._slot.states[self._length : end] = states
        self._length, self._logits = end, logits


def fixed_step(model: Llama, cache: KvCache) -> Callable[[Tensor, Tensor], Tensor]:
    """A decoding step over all slots of a block, of fixed shapes: `graphs.py` can capture it.

    Returns:
        From tokens (slots,) and their positions (slots,), both on the device, to the logits after
        them, (slots, n_vocabulary).
    """

    def step(tokens: Tensor, positions: Tensor) -> Tensor:
        states = model(model.embed(tokens)[:, None], Fixed(cache, positions))  # (slots, 1, d_model)
        cache.states.scatter_(1, positions[:, None, None].expand(states.shape), states)
        logits: Tensor = model.vocabulary(states[:, 0])
        return logits

    return step


def check_room(length: int, n: int, capacity: int) -> None:
    """Refuse rows that do not fit.

    Raises:
        StageError: in one line.
    """
    if length + n > capacity:
        raise StageError(
            f"the conversation needs {length + n} rows, the cache holds {capacity};"
            " raise [llm] context",
            needed=length + n,
            capacity=capacity,
        )
