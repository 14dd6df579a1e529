"""Lean decoder: preallocated caches, several tokens a pass, one read of all that is decided on.

A pass gives, for each token fed, the next token, how sure it is, what it attended to, and the
middle-layer state that prosody reads. Knows nothing of blocks, commits or text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from textpro_stream.linear import Vocabulary
from textpro_stream.whisper.tokens import Tokens
from textpro_stream.whisper.weights import WhisperWeights


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model would say next, after one fed token. Plain numbers on the host."""

    token: int  # the best
    logprob: float  # its log-probability, natural log
    end_logprob: float  # that of end-of-text
    runner_up: int  # the best that is not end-of-text
    runner_up_logprob: float
    no_speech: float  # log-probability of the no-speech token
    position: int  # attended encoder position: median over the alignment heads


class DecoderState:
    """One segment's decoder caches.

    Self-attention: (layer, head, token, d_head); cross-attention: (layer, head, position, d_head).
    Rows behind the last pass are scratch; feeding tokens at an earlier place overwrites them.
    """

    def __init__(
        self,
        weights: WhisperWeights,
        vocabulary: Vocabulary,
        *,
        tokens: Tokens,
    ) -> None:
        """Allocate.

        Args:
            weights: shared.
            vocabulary: shared.
            tokens: which ids may be said, and the special ones.
        """
        dims = weights.dims
        device, dtype = weights.embedding.device, weights.dtype
        self._weights, self._vocabulary = weights, vocabulary
        self._end, self._no_speech = tokens.end, tokens.no_speech
        self._suppressed = tokens.suppressed.to(device)
        self._suppressed_first = tokens.suppressed_first.to(device)
        layers, heads, width = dims.n_decoder_layers, dims.n_heads, dims.d_head
        self._self = torch.empty(
            2, layers, heads, dims.n_context, width, dtype=dtype, device=device
        )
        self._cross = torch.empty(
            2, layers, heads, dims.n_positions, width, dtype=dtype, device=device
        )
        self.n_positions = 0  # encoder positions that attention sees
        # Indices live on the device: a list would be carried there by every pass.
        self._aligned = [
            torch.tensor(
                [head for at, head in weights.alignment_heads if at == layer],
                dtype=torch.long,
                device=device,
            )
            for layer in range(layers)
        ]
        self.passes = 0

    @property
    def context(self) -> int:
        """Places for tokens."""
        return self._weights.dims.n_context

    def hear(self, states: Tensor, at: int) -> None:
        """Write cross-attention rows of encoder states (n, d_model) from position `at` on.

        Rows behind them are dropped.
        """
        dims, n = self._weights.dims, len(states)
        if n:
            rows = self._weights.cross_kv(states)
            rows = rows.view(n, dims.n_decoder_layers, 2, dims.n_heads, dims.d_head)
            self._cross[:, :, :, at : at + n] = rows.permute(2, 1, 3, 0, 4)
        self.n_positions = at + n

    def run(
        self, tokens: Sequence[int], at: int, n_choices: int, first: int | None = None
    ) -> tuple[list[Choice], Tensor]:
        """Feed tokens at places at .. at+n.

        Args:
            tokens: ids.
            at: place of the first in the decoder's context.
            n_choices: for how many of the last tokens a choice is wanted.
            first: which choice, if any, is the first of a text: it may not be blank or empty.

        Returns:
            The choices, and the middle-layer states of the same tokens, (n_choices, d_model).
        """
        w, dims = self._weights, self._weights.dims
        n, end = len(tokens), at + len(tokens)
        device = w.embedding.device
        ids = torch.tensor(tokens, device=device)
        x = w.embedding[ids] + w.decoder_positions[at:end]
        seen = self.n_positions
        mask = None
        if n > 1:  # token i of the pass sees rows up to at + i
            mask = torch.ones(n, end, dtype=torch.bool, device=device).tril(at)
        attended: list[Tensor] = []
        middle = x
        for i, layer in enumerate(w.decoder):
            if i == dims.prosody_layer:
                middle = x
            qkv = layer.qkv(F.layer_norm(x, (dims.d_model,), *layer.attention_norm))
            q, k, v = qkv.view(n, 3, dims.n_heads, dims.d_head).permute(1, 2, 0, 3)
            self._self[0, i, :, at:end] = k
            self._self[1, i, :, at:end] = v
            heads = F.scaled_dot_product_attention(
                q[None], self._self[0, i, None, :, :end], self._self[1, i, None, :, :end], mask
            )[0]
            x = x + layer.out(heads.transpose(0, 1).reshape(n, dims.d_model))
            q = layer.cross_q(F.layer_norm(x, (dims.d_model,), *layer.cross_norm))
            q = q.view(n, dims.n_heads, dims.d_head).transpose(0, 1)  # (head, n, d_head)
            keys, values = self._cross[0, i, :, :seen], self._cross[1, i, :, :seen]
            if len(self._aligned[i]):  # attention weights are wanted, so no fused kernel
                attention = (q @ keys.transpose(1, 2) * dims.d_head**-0.5).softmax(-1)
                attended.append(attention[self._aligned[i], n - n_choices :].argmax(-1))
                heads = attention @ values
            else:
                heads = F.scaled_dot_product_attention(q[None], keys[None], values[None])[0]
            x = x + layer.cross_out(heads.transpose(0, 1).reshape(n, dims.d_model))
            hidden = layer.up(F.layer_norm(x, (dims.d_model,), *layer.mlp_norm))
            x = x + layer.down(F.gelu(hidden))
        self.passes += 1
        x = F.layer_norm(x[n - n_choices :], (dims.d_model,), *w.decoder_norm)
        position = torch.cat(attended).median(0).values  # (n_choices,)
        logits = self._vocabulary(x)
        silent = logits[:, self._no_speech].clone()
        total = logits.logsumexp(-1)
        logits += self._suppressed
        if first is not None:
            logits[first] += self._suppressed_first
        ends = logits[:, self._end].clone()
        logits[:, self._end] = -torch.inf
        other = logits.max(-1)
        # One transfer: on CUDA, each separate read would wait for the device.
        numbers = torch.stack(
            [ends - total, other.values - total, silent - total, position.float()]
        )
        packed = torch.cat([numbers.double(), other.indices.double()[None]]).T.tolist()
        return [self._choice(row) for row in packed], middle[n - n_choices :].float()

    def _choice(self, row: list[float]) -> Choice:
        end_logprob, logprob, no_speech, position, token = row
        ends = end_logprob > logprob
        return Choice(
            token=self._end if ends else int(token),
            logprob=max(end_logprob, logprob),
            end_logprob=end_logprob,
            runner_up=int(token),
            runner_up_logprob=logprob,
            no_speech=no_speech,
            position=int(position),
        )
