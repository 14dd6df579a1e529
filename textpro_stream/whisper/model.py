"""Whisper as modules: one forward for training, a whole clip, and streaming.

What a row sees is told by the view that a forward is given. `cache.py` has those that append to
what is kept, `blocks.py` those of whole clips under the mask that streaming obeys. So there is one
path, and no second model to keep in step. Knows neither files (`weights.py`) nor storage nor text.

Shapes: b clips of n rows each; an encoder row is a position (20 ms), a decoder row a token.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textpro_stream.linear import Vocabulary


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The sizes of one model, from its config.json."""

    n_mels: int
    n_positions: int  # encoder positions, 1500
    n_context: int  # decoder positions, 448
    n_vocabulary: int
    d_model: int
    n_heads: int
    n_encoder_layers: int
    n_decoder_layers: int
    d_encoder_mlp: int
    d_decoder_mlp: int

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def prosody_layer(self) -> int:
        """Decoder layers run before the prosody state is read: 16 of 32 in the paper."""
        return self.n_decoder_layers // 2


class Seen(NamedTuple):
    """What the rows of some clips attend to."""

    keys: Tensor  # (b, n_heads, n_seen, d_head)
    values: Tensor  # (b, n_heads, n_seen, d_head)
    mask: Tensor | None = None  # True where a row sees; broadcasts to (b, 1, n, n_seen)


class View(Protocol):
    """Where a forward's rows stand, and what stands beside them. Good for one forward."""

    @property
    def positions(self) -> slice | Tensor:
        """Of the rows: the same n for each clip, or (b, n)."""
        ...

    def append(self, layer: int, keys: Tensor, values: Tensor, /) -> Sequence[Seen]:
        """Take a layer's new keys and values, (b, n_heads, n, d_head).

        Returns:
            What is seen, for equal shares of the batch, in order.
        """
        ...


class TextView(View, Protocol):
    """The same for decoder rows, which attend to audio too."""

    def cross(self, layer: int, /) -> Seen:
        """A layer's keys and values of the audio."""
        ...


class Encoded(NamedTuple):
    """What the encoder makes of its rows."""

    states: Tensor  # (b, n, d_model), normed
    layers: tuple[Tensor, ...] = ()  # (b, n, d_model) each: output of the layers asked for


class Decoded(NamedTuple):
    """What the decoder makes of its last rows."""

    states: Tensor  # (b, n_last, d_model), normed: `vocabulary` makes logits of them
    middle: Tensor  # (b, n_last, d_model), before layer `prosody_layer`
    attention: Tensor  # (b, alignment head, n_last, n_seen), of each row over the audio


class MelWindow(NamedTuple):
    """The log-mel frames that some positions read, `cut` from a clip."""

    frames: Tensor  # (b, 2n + 3, n_mels); zero outside the clip
    inside: Tensor | None  # (b, 2n + 1) 1 where the first convolution is in the clip; None: all

    @staticmethod
    def cut(mel: Tensor, first: int, n: int) -> MelWindow:
        """For positions first .. first+n of a batch of one.

        Args:
            mel: normalised frames from the clip's start, (n_frames, n_mels). Position j reads
                frames 2j-2 .. 2j+2; beyond either end there is zero, as in Whisper, so a caller
                that is not at the clip's end brings two frames more.
            first: the first position wanted.
            n: how many.
        """
        low, high = 2 * first - 2, 2 * (first + n) + 1
        begin, end = max(low, 0), min(high, len(mel))
        frames = F.pad(mel[begin:end], (0, 0, begin - low, high - end))
        inside = None
        if first == 0 or high > len(mel):
            # The second convolution pads with zero, not with the first's output out there.
            inside = frames.new_ones(1, 2 * n + 1)
            if first == 0:
                inside[:, 0] = 0
            if high > len(mel):
                inside[:, len(mel) - low - 1 :] = 0
        return MelWindow(frames[None], inside)

    @staticmethod
    def stack(windows: Sequence[MelWindow]) -> MelWindow:
        """Several clips' windows, of equally many positions, as one batch."""
        if len(windows) == 1:
            return windows[0]
        frames = torch.cat([window.frames for window in windows])
        if all(window.inside is None for window in windows):
            return MelWindow(frames, None)
        whole = frames.new_ones(1, frames.shape[1] - 2)
        found = [whole if window.inside is None else window.inside for window in windows]
        return MelWindow(frames, torch.cat(found))


class EncoderBlock(nn.Module):
    """Self-attention and a GELU MLP. Its parts are flat, its products fused."""

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        d = dims.d_model
        self.n_heads = dims.n_heads
        self.attention_norm = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.mlp_norm = nn.LayerNorm(d)
        self.up = nn.Linear(d, dims.d_encoder_mlp)
        self.down = nn.Linear(dims.d_encoder_mlp, d)

    def forward(self, x: Tensor, view: View, layer: int) -> Tensor:
        """Rows x (b, n, d_model) with their residual."""
        x = _with_self_attention(x, self, view, layer)
        return _with_mlp(x, self)


class DecoderBlock(nn.Module):
    """Self-attention, attention to the audio, and a GELU MLP.

    Keys and values of the audio are made for all layers at once, see `TextDecoder.cross_rows`.

    Args:
        dims: sizes.
        aligned: heads whose attention over the audio is wanted.
    """

    aligned: Tensor

    def __init__(self, dims: Dimensions, aligned: Sequence[int]) -> None:
        super().__init__()
        d = dims.d_model
        self.n_heads, self.n_aligned = dims.n_heads, len(aligned)
        self.attention_norm = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.cross_norm = nn.LayerNorm(d)
        self.cross_q = nn.Linear(d, d)
        self.cross_out = nn.Linear(d, d)
        self.mlp_norm = nn.LayerNorm(d)
        self.up = nn.Linear(d, dims.d_decoder_mlp)
        self.down = nn.Linear(dims.d_decoder_mlp, d)
        # On the device: a list would be carried there by every pass.
        self.register_buffer("aligned", torch.tensor(aligned, dtype=torch.long), persistent=False)

    def forward(
        self, x: Tensor, view: TextView, layer: int, n_last: int
    ) -> tuple[Tensor, Tensor | None]:
        """Rows x (b, n, d_model) with their residual.

        Returns:
            The rows, and the aligned heads' attention, (b, n_aligned, n_last, n_seen), if any.
        """
        x = _with_self_attention(x, self, view, layer)
        q = self.cross_q.forward(self.cross_norm.forward(x))
        heard, attention = self._listen(q, view.cross(layer), n_last)
        x = x + self.cross_out.forward(heard)
        return _with_mlp(x, self), attention

    def _listen(self, q: Tensor, seen: Seen, n_last: int) -> tuple[Tensor, Tensor | None]:
        b, n, d = q.shape
        q = q.view(b, n, self.n_heads, -1).transpose(1, 2)  # (b, n_heads, n, d_head)
        if not self.n_aligned:
            heads = F.scaled_dot_product_attention(q, *seen)
            return heads.transpose(1, 2).reshape(b, n, d), None
        # Its weights are wanted, so no fused kernel; in three dimensions, which torch reshapes to.
        scaled = (q * q.shape[-1] ** -0.5).flatten(0, 1)  # (b * n_heads, n, d_head)
        scores = torch.bmm(scaled, seen.keys.flatten(0, 1).transpose(1, 2))
        if seen.mask is not None:
            scores = scores.view(b, self.n_heads, n, -1).masked_fill(~seen.mask, -torch.inf)
            scores = scores.flatten(0, 1)
        weights = scores.softmax(-1)  # (b * n_heads, n, n_seen)
        heads = torch.bmm(weights, seen.values.flatten(0, 1)).view(b, self.n_heads, n, -1)
        attention = weights.view(b, self.n_heads, n, -1).narrow(2, n - n_last, n_last)
        return heads.transpose(1, 2).reshape(b, n, d), attention.index_select(1, self.aligned)


class AudioEncoder(nn.Module):
    """Log-mel frames to states, one each 20 ms.

    Args:
        dims: sizes.
    """

    def __init__(self, dims: Dimensions) -> None:
        super().__init__()
        d = dims.d_model
        self.conv1 = nn.Conv1d(dims.n_mels, d, 3)
        self.conv2 = nn.Conv1d(d, d, 3, stride=2)
        self.positions = nn.Parameter(torch.zeros(dims.n_positions, d))
        self.blocks = nn.ModuleList(EncoderBlock(dims) for _ in range(dims.n_encoder_layers))
        self.norm = nn.LayerNorm(d)

    def stem(self, window: MelWindow) -> Tensor:
        """The two convolutions, rows (b, n, d_model)."""
        x = F.gelu(self.conv1(window.frames.transpose(1, 2).to(self.conv1.weight.dtype)))
        if window.inside is not None:
            x = x * window.inside[:, None].to(x.dtype)
        return F.gelu(self.conv2(x)).transpose(1, 2)

    def forward(self, x: Tensor, view: View | None = None, layers: Collection[int] = ()) -> Encoded:
        """Encode positions.

        Args:
            x: rows (b, n, d_model), as `stem` gives them.
            view: where they stand and what they see; None: whole clips that see all of themselves.
            layers: whose output is wanted as well; the first is 1.
        """
        view = view or _Whole(x.shape[1])
        x = x + self.positions[view.positions]
        kept = []
        for i, block in enumerate(self.blocks):
            x = block(x, view, i)
            if i + 1 in layers:
                kept.append(x)
        return Encoded(self.norm(x), tuple(kept))


class TextDecoder(nn.Module):
    """Tokens and audio to states.

    Args:
        dims: sizes.
        alignment_heads: (layer, head) whose attention follows time.
    """

    def __init__(self, dims: Dimensions, alignment_heads: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        d, n_layers = dims.d_model, dims.n_decoder_layers
        self.alignment_heads = tuple(alignment_heads)
        self._prosody_layer, self._d_head = dims.prosody_layer, dims.d_head
        # Uniform: on the meta device, normal numbers import 3 s of torch's reference kernels.
        self.embedding = nn.Parameter(torch.empty(dims.n_vocabulary, d).uniform_(-0.035, 0.035))
        self.positions = nn.Parameter(torch.zeros(dims.n_context, d))
        self.cross_kv = nn.Linear(d, n_layers * 2 * d)  # of all layers, in one product
        self.blocks = nn.ModuleList(
            DecoderBlock(dims, [head for at, head in alignment_heads if at == i])
            for i in range(n_layers)
        )
        self.norm = nn.LayerNorm(d)

    def cross_rows(self, states: Tensor) -> Tensor:
        """Keys and values of audio: states (b, n, d_model) to (2, layer, b, n_heads, n, d_head)."""
        b, n, _ = states.shape
        rows: Tensor = self.cross_kv(states)
        rows = rows.view(b, n, len(self.blocks), 2, -1, self._d_head)
        return rows.permute(3, 2, 0, 4, 1, 5)

    def forward(self, ids: Tensor, view: TextView, n_last: int | None = None) -> Decoded:
        """Feed tokens.

        Args:
            ids: (b, n).
            view: where they stand and what they see.
            n_last: for how many of the last tokens the result is wanted; None: all.
        """
        n = ids.shape[1]
        last = n if n_last is None else n_last
        x = F.embedding(ids, self.embedding) + self.positions[view.positions]
        middle, attended = x, []
        for i, block in enumerate(self.blocks):
            if i == self._prosody_layer:
                middle = x
            x, attention = block(x, view, i, last)
            if attention is not None:
                attended.append(attention)
        states = self.norm(x[:, n - last :])
        return Decoded(states, middle[:, n - last :], torch.cat(attended, 1))


class Whisper(nn.Module):
    """Encoder and decoder of one checkpoint, whatever its size.

    `weights.load_weights` gives one whose parameters ask for no gradient, so that no step ever
    builds a graph; who trains it says `requires_grad_()`.

    Args:
        dims: sizes.
        alignment_heads: (layer, head) whose attention follows time.
    """

    def __init__(self, dims: Dimensions, alignment_heads: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.dims = dims
        self.base = ""  # `lora.fingerprint` of the published weights, once they are read
        self.encoder = AudioEncoder(dims)
        # As published, where an adapter has taught the other one the streaming mask.
        self.whole_encoder = self.encoder
        self.decoder = TextDecoder(dims, alignment_heads)
        self.vocabulary = Vocabulary(self.decoder.embedding, int8=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of rows, states and cache."""
        return self.encoder.positions.dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.encoder.positions.device


class _Whole:
    """The view of whole clips without a mask: the encoder as Whisper's makers run it."""

    def __init__(self, n: int) -> None:
        self.positions = slice(0, n)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Nothing is stored."""
        return [Seen(keys, values)]


# The blocks call `forward` of their parts: what `__call__` adds is a tenth of a decoder pass.


def _with_self_attention(
    x: Tensor, block: EncoderBlock | DecoderBlock, view: View, layer: int
) -> Tensor:
    """Rows x (b, n, d_model) and what their attention to each other adds."""
    b, n, width = x.shape
    qkv: Tensor = block.qkv.forward(block.attention_norm.forward(x))
    q, k, v = qkv.view(b, n, 3, block.n_heads, -1).permute(2, 0, 3, 1, 4)
    seen = view.append(layer, k, v)
    if len(seen) == 1:
        heads = F.scaled_dot_product_attention(q, *seen[0])
    else:
        shares = zip(q.chunk(len(seen)), seen, strict=True)
        heads = torch.cat([F.scaled_dot_product_attention(one, *them) for one, them in shares])
    return x + block.out.forward(heads.transpose(1, 2).reshape(b, n, width))


def _with_mlp(x: Tensor, block: EncoderBlock | DecoderBlock) -> Tensor:
    """Rows x (b, n, d_model) and what the MLP adds."""
    hidden: Tensor = block.up.forward(block.mlp_norm.forward(x))
    return x + block.down.forward(F.gelu(hidden))
