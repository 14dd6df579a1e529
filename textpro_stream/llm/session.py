"""One conversation's growing KV cache over shared weights: append, crop, look, decode.

The forward is our own: on one thread the library's per-step overhead cost more than the
arithmetic (54 ms a token under transformers, SmolLM2-135M). Cache and hidden states are allocated
once, at the conversation's capacity; a step writes into them and grows nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from textpro_stream.errors import StageError
from textpro_stream.llm.weights import Layer, LlamaWeights, rope_table


class KvSession:
    """`contracts.Session` over Llama-family weights.

    Args:
        weights: shared, never written.
        capacity: rows that fit.
    """

    def __init__(self, weights: LlamaWeights, capacity: int) -> None:
        dims, device = weights.dims, weights.norm.device
        self.capacity = capacity
        self._weights = weights
        self._length = 0
        cos, sin = rope_table(dims, capacity, device)
        self._cos, self._sin = cos.to(weights.dtype), sin.to(weights.dtype)

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=weights.dtype, device=device)

        held = (dims.n_layers, dims.n_kv_heads, capacity, dims.d_head)
        self._keys, self._values = empty(*held), empty(*held)
        # Kept for every row, so that looking at logits after a crop costs no second pass.
        self._hidden = empty(capacity, dims.d_model)
        self._positions = torch.arange(capacity, device=device)

    @property
    def length(self) -> int:
        """Rows held."""
        return self._length

    def crop(self, length: int) -> None:
        """Keep the first `length` rows."""
        assert 0 <= length <= self._length, f"crop to {length} of {self._length}"
        self._length = length

    @torch.inference_mode()
    def prefill(self, rows: Tensor) -> None:
        """Append rows (n, d_model) in one pass.

        Raises:
            StageError: they do not fit; nothing was appended.
        """
        n = rows.shape[0]
        check_room(self._length, n, self.capacity)
        if n:
            self._forward(rows.to(self._weights.dtype))

    def decode(self, token: int) -> None:
        """Append one token's row."""
        self.prefill(embed(self._weights, [token]))

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """Next-token logits after the last row, float32, shape (n_vocabulary,)."""
        assert self._length, "no row has been prefilled"
        last: Tensor = self._weights.vocabulary(self._hidden[self._length - 1 : self._length])[0]
        return last

    def _forward(self, x: Tensor) -> None:
        """Run x (n, d_model) through the layers, writing behind the rows held."""
        weights, start, n = self._weights, self._length, x.shape[0]
        end = start + n
        cos, sin = self._cos[start:end], self._sin[start:end]  # (n, 1, d_head)
        mask = None  # one row sees everything
        if n > 1:
            mask = self._positions[:end] <= self._positions[start:end, None]  # (n, end)
        if weights.rotation is not None:
            x = weights.rotation.rows(x)
        for i, layer in enumerate(weights.layers):
            x = self._attend(x, i, layer, cos, sin, mask)
            normed = F.rms_norm(x, (x.shape[-1],), layer.mlp_norm, weights.dims.eps)
            gate, up = layer.gate_up(normed).chunk(2, dim=-1)
            x = x + layer.down(F.silu(gate).mul_(up))
        if weights.rotation is not None:
            x = weights.rotation.rows(x)
        self._hidden[start:end] = F.rms_norm(x, (x.shape[-1],), weights.norm, weights.dims.eps)
        self._length = end

    def _attend(
        self, x: Tensor, i: int, layer: Layer, cos: Tensor, sin: Tensor, mask: Tensor | None
    ) -> Tensor:
        """One attention block: x (n, d_model) with its residual."""
        dims, n = self._weights.dims, x.shape[0]
        start, end = self._length, self._length + n
        normed = F.rms_norm(x, (dims.d_model,), layer.attention_norm, dims.eps)
        qkv = layer.qkv(normed).view(n, -1, dims.d_head)
        rotated = dims.n_heads + dims.n_kv_heads
        qk = qkv[:, :rotated]  # one rotation for queries and keys
        qk = torch.addcmul(qk * cos, qk.roll(dims.d_head // 2, -1), sin)
        keys, values = self._keys[i], self._values[i]
        keys[:, start:end] = qk[:, dims.n_heads :].transpose(0, 1)
        values[:, start:end] = qkv[:, rotated:].transpose(0, 1)
        # Heads that share keys stand beside each other: a stride of 0 repeats without copying.
        group = dims.n_heads // dims.n_kv_heads
        query = qk[:, : dims.n_heads].transpose(0, 1).reshape(-1, group, n, dims.d_head)
        shape = (-1, group, -1, -1)
        mixed = F.scaled_dot_product_attention(
            query,
            keys[:, None, :end].expand(shape),
            values[:, None, :end].expand(shape),
            attn_mask=mask,
        )  # (n_kv_heads, group, n, d_head)
        mixed = mixed.flatten(0, 1).transpose(0, 1).reshape(n, -1)
        return x + layer.out(mixed)


def embed(weights: LlamaWeights, ids: list[int]) -> Tensor:
    """Rows (n, d_model) of token ids, without waiting for the device."""
    device = weights.embedding.device
    index = torch.tensor(ids, dtype=torch.long).to(device, non_blocking=True)
    return F.embedding(index, weights.embedding).to(weights.dtype)


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
