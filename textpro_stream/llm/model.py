"""A Llama-family model: one forward for training, prefill and decoding.

Without a cache the rows are whole sequences under the causal mask; with one they are appended to
what it holds. Either way each row sees itself and what stands before it, so there is one path and
no second model to keep in step. Knows neither files (`weights.py`) nor storage (`kv.py`).

Shapes: b sequences of n rows; n_heads queries share n_kv_heads keys; `end` keys are seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textpro_stream.linear import Vocabulary
from textpro_stream.llm.rotation import Rotation


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The sizes and switches of one model, from its config.json."""

    d_model: int
    d_mlp: int
    d_head: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    n_vocabulary: int
    context: int  # rows that the model was trained for
    eps: float
    tied: bool  # the vocabulary projection is the embedding
    rope: Mapping[str, Any]  # rope_type, rope_theta and what the kind needs


# What some sequences of a step see: keys, values (b, n_kv_heads, end, d_head), and the mask of
# them, (group * n, end) or (b, 1, 1, end); None: all are seen.
Seen = tuple[Tensor, Tensor, Tensor | None]


class CacheView(Protocol):
    """Where a step's rows stand, and what stands before them. Good for one forward."""

    @property
    def positions(self) -> slice | Tensor:
        """Of the rows in their sequences: the same n for each, or (b, n)."""
        ...

    @property
    def reach(self) -> int:
        """Above every position."""
        ...

    def append(self, layer: int, keys: Tensor, values: Tensor, /) -> Sequence[Seen]:
        """Store a layer's new keys and values, (b, n_kv_heads, n, d_head).

        Returns:
            What is seen, for equal shares of the batch, in order.
        """
        ...


class Whole:
    """The view of training: sequences that begin and end with the rows at hand."""

    def __init__(self, n: int, group: int, rows: Tensor) -> None:
        self.positions, self.reach = slice(0, n), n
        causal = torch.ones(n, n, dtype=torch.bool, device=rows.device).tril_()
        self._mask = mask_of(causal, rows.dtype).repeat(group, 1)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Nothing is stored."""
        return [(keys, values, self._mask)]


def mask_of(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """What attention adds to its scores: 0 where seen, -inf elsewhere.

    Made once a step: given the booleans, attention would make it anew in each layer.
    """
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(seen.logical_not(), -torch.inf)


class Block(nn.Module):
    """One layer: grouped-query attention with rotary positions, then SwiGLU.

    Its parts are few and flat: a call of a module costs as much as a small operation, and decoding
    a token is some thirty operations a layer (docs/notes/0009).
    """

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        d, kv_heads, self._d_head = dims.d_model, dims.n_kv_heads, dims.d_head
        self._n_heads, self._n_kv_heads = dims.n_heads, kv_heads
        self._width, self._eps = (d,), dims.eps
        # None where a rotation has folded them into the products behind them
        self.attention_norm: nn.Parameter | None = nn.Parameter(torch.ones(d))
        self.mlp_norm: nn.Parameter | None = nn.Parameter(torch.ones(d))
        self.qkv = nn.Linear(d, (dims.n_heads + 2 * kv_heads) * dims.d_head, bias=False)
        self.out = nn.Linear(dims.n_heads * dims.d_head, d, bias=False)
        self.gate_up = nn.Linear(d, 2 * dims.d_mlp, bias=False)
        self.down = nn.Linear(dims.d_mlp, d, bias=False)
        self.rotation: Rotation | None = None  # of what `down` reads

    def forward(
        self, x: Tensor, turn: tuple[Tensor, Tensor], view: CacheView, layer: int
    ) -> Tensor:
        """Rows x (b, n, d_model) with their residual; `turn`: see `rope_table`."""
        x = x + self._attend(x, turn, view, layer)
        normed = F.rms_norm(x, self._width, self.mlp_norm, self._eps)
        gate, up = self.gate_up(normed).chunk(2, dim=-1)
        inner = F.silu(gate).mul_(up)
        if self.rotation is not None:
            inner = self.rotation.rows(inner)
        rows: Tensor = x + self.down(inner)
        return rows

    def _attend(
        self, x: Tensor, turn: tuple[Tensor, Tensor], view: CacheView, layer: int
    ) -> Tensor:
        (b, n, _), (cos, sin) = x.shape, turn
        n_heads, n_kv_heads, d_head = self._n_heads, self._n_kv_heads, self._d_head
        normed = F.rms_norm(x, self._width, self.attention_norm, self._eps)
        qkv = self.qkv(normed).view(b, n, -1, d_head)
        qk, values = qkv.split_with_sizes((n_heads + n_kv_heads, n_kv_heads), 2)
        # One rotation for queries and keys
        qk = torch.addcmul(qk * cos, qk.roll(d_head // 2, -1), sin).transpose(1, 2)
        queries, keys = qk.split_with_sizes((n_heads, n_kv_heads), 1)
        # Heads that share keys become more queries of one head: the keys are read once for all.
        queries = queries.reshape(b, n_kv_heads, -1, d_head)  # (b, n_kv_heads, group * n, d_head)
        seen = view.append(layer, keys, values.transpose(1, 2))
        if len(seen) == 1:
            mixed = F.scaled_dot_product_attention(queries, *seen[0])
        else:
            shares = zip(queries.chunk(len(seen)), seen, strict=True)
            mixed = torch.cat([F.scaled_dot_product_attention(q, *them) for q, them in shares])
        rows: Tensor = self.out(mixed.view(b, n_heads, n, d_head).transpose(1, 2).reshape(b, n, -1))
        return rows


class Llama(nn.Module):
    """Llama, Qwen2 and Mistral without a window: one architecture with switches.

    Made directly its tables are not filled yet. `weights.load_weights` gives one whose parameters
    ask for no gradient, so that no step ever builds a graph; who trains it says `requires_grad_()`.

    Args:
        dims: sizes.
    """

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        self.dims = dims
        self.embedding = nn.Parameter(torch.empty(dims.n_vocabulary, dims.d_model))
        self.blocks = nn.ModuleList(Block(dims) for _ in range(dims.n_layers))
        self.norm = nn.Parameter(torch.ones(dims.d_model))
        head = self.embedding
        if not dims.tied:
            head = nn.Parameter(torch.empty(dims.n_vocabulary, dims.d_model))
        self.vocabulary = Vocabulary(head, int8=False)
        self.rotation: Rotation | None = None  # between rows and blocks, where they are int8
        self._turns: tuple[Tensor, Tensor] | None = None  # see rope_table; as long as was needed

    @property
    def dtype(self) -> torch.dtype:
        """Of rows, states and cache."""
        return self.norm.dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.norm.device

    def embed(self, ids: Tensor) -> Tensor:
        """Rows (..., d_model) of token ids (...)."""
        return F.embedding(ids, self.embedding).to(self.dtype)

    def forward(self, rows: Tensor, cache: CacheView | None = None) -> Tensor:
        """Last hidden states (b, n, d_model); `vocabulary` makes logits of them.

        Args:
            rows: (b, n, d_model).
            cache: what the rows are appended to; None: they are whole sequences.
        """
        view = cache
        if view is None:
            dims = self.dims
            view = Whole(rows.shape[1], dims.n_heads // dims.n_kv_heads, rows)
        turn = self._turn(view)
        x = rows if self.rotation is None else self.rotation.rows(rows)
        for layer, block in enumerate(self.blocks):
            x = block(x, turn, view, layer)
        if self.rotation is not None:
            x = self.rotation.rows(x)
        return F.rms_norm(x, (self.dims.d_model,), self.norm, self.dims.eps)

    def _turn(self, view: CacheView) -> tuple[Tensor, Tensor]:
        """Cosines and sines at a view's positions, (n, 1, d_head) or (b, n, 1, d_head)."""
        held = self._turns
        if held is None or len(held[0]) < view.reach or held[0].device != self.device:
            length = max(256, 1 << (view.reach - 1).bit_length())
            with torch.inference_mode(False):  # training may read it later
                cos, sin = rope_table(self.dims, length, self.device)
                held = self._turns = cos.to(self.dtype), sin.to(self.dtype)
        return held[0][view.positions], held[1][view.positions]


def rope_table(dims: Dimensions, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of rotary positions 0 to length-1, float32, (length, 1, d_head).

    The sine's first half is negated, so that rotating is `x * cos + roll(x, d_head/2) * sin`.
    Kinds: default, linear (positions shrunk) and llama3 (slow turns shrunk, fast ones kept, a
    blend between; Llama 3.1's rule).
    """
    rope = dims.rope
    steps = torch.arange(0, dims.d_head, 2, dtype=torch.float32)
    speed = 1.0 / float(rope["rope_theta"]) ** (steps / dims.d_head)  # (d_head/2,)
    if rope["rope_type"] == "linear":
        speed = speed / float(rope["factor"])
    if rope["rope_type"] == "llama3":
        low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
        turns = float(rope["original_max_position_embeddings"]) * speed / (2 * math.pi)
        keep = ((turns - low) / (high - low)).clamp(0.0, 1.0)
        speed = keep * speed + (1 - keep) * speed / float(rope["factor"])
    angles = torch.arange(length, dtype=torch.float32)[:, None] * speed
    cos, sin = angles.cos(), angles.sin()
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return cos[:, None].to(device), sin[:, None].to(device)
