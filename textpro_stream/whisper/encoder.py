"""Append-only encoder: each position is encoded once for good, with a bounded look-ahead.

Per layer, keys and values of final positions are kept. A step runs the new positions together
with look-ahead positions behind them; the latter's keys and values are scratch, overwritten by
the next step. All positions of one step see each other and everything before them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from textpro_stream.whisper.weights import WhisperWeights


class EncoderState:
    """One segment's encoder cache.

    `keys`, `values`: (layer, head, position, d_head), preallocated for a whole Whisper window.
    """

    def __init__(self, weights: WhisperWeights) -> None:
        dims = weights.dims
        shape = (dims.n_encoder_layers, dims.n_heads, dims.n_positions, dims.d_head)
        device = weights.embedding.device
        self._weights = weights
        self._keys = torch.empty(shape, dtype=weights.dtype, device=device)
        self._values = torch.empty_like(self._keys)
        self.length = 0  # final positions

    def stem(self, mel: Tensor, first: int, n: int) -> Tensor:
        """The two convolutions for positions first .. first+n, shape (n, d_model).

        Args:
            mel: normalised frames of the segment, (n_frames, n_mels), from the segment's start.
                Position j reads frames 2j-2 .. 2j+2; beyond either end there is zero, as in
                Whisper, so a caller that is not at the stream's end brings two frames more.
            first: the first position wanted.
            n: how many.
        """
        low, high = 2 * first - 2, 2 * (first + n) + 1
        begin, end = max(low, 0), min(high, len(mel))
        x = mel[begin:end].T.to(self._weights.dtype)
        x = F.pad(x, (begin - low, high - end))
        x = F.gelu(F.conv1d(x[None], *self._weights.conv1))  # outputs 2 first - 1 ..
        if first == 0:
            x[..., 0] = 0  # the second convolution pads with zero, not with the first's output
        if high > len(mel):
            x[..., len(mel) - low - 1 :] = 0  # likewise on the right
        return F.gelu(F.conv1d(x, *self._weights.conv2, stride=2))[0].T

    def step(self, stem: Tensor, n_final: int) -> Tensor:
        """Encode positions length .. length+n, keeping the first `n_final` of them.

        Args:
            stem: (n, d_model), as `stem` gives it.
            n_final: how many become final; the rest is look-ahead.

        Returns:
            Their states, (n, d_model).
        """
        w, dims = self._weights, self._weights.dims
        n, begin = len(stem), self.length
        end = begin + n
        x = stem + w.encoder_positions[begin:end]
        for i, layer in enumerate(w.encoder):
            qkv = layer.qkv(F.layer_norm(x, (dims.d_model,), *layer.attention_norm))
            q, k, v = qkv.view(n, 3, dims.n_heads, dims.d_head).permute(1, 2, 0, 3)
            self._keys[i, :, begin:end] = k
            self._values[i, :, begin:end] = v
            heads = F.scaled_dot_product_attention(
                q[None], self._keys[i, None, :, :end], self._values[i, None, :, :end]
            )[0]
            x = x + layer.out(heads.transpose(0, 1).reshape(n, dims.d_model))
            hidden = layer.up(F.layer_norm(x, (dims.d_model,), *layer.mlp_norm))
            x = x + layer.down(F.gelu(hidden))
        self.length = begin + n_final
        return F.layer_norm(x, (dims.d_model,), *w.encoder_norm)
