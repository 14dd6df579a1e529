"""Blocks: which positions become final when, and the mask of a whole clip that obeys it.

Streaming encodes a block's new positions together with a few look-ahead positions behind them. The
first are final, the latter provisional: the next block encodes them again, with more audio around
them. One pass over a whole clip does the same if each block brings copies of its own look-ahead.
Blocks of 3 positions and a look-ahead of 2 (F final, a to c the blocks' copies):

                          columns, by position
                     0 1 2   3 4 5   6 7    3 4   6 7
                     F F F   F F F   F F    a a   b b
    row  0 1 2  F    x x x   . . .   . .    x x   . .      block a: itself and its look-ahead
         3 4 5  F    x x x   x x x   . .    . .   x x      block b: all that is final, its own
         6 7    F    x x x   x x x   x x    . .   . .      block c: the clip ends in it
         3 4    a    x x x   . . .   . .    x x   . .
         6 7    b    x x x   x x x   . .    . .   x x

A final row never sees another block's copies, a copy is seen by nobody later: append-only keys and
values, exactly as the cache keeps them. So training and streaming share one
forward. Knows nothing of samples' values or of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from textpro_stream.contracts import POSITION_HOP, samples_of_ms
from textpro_stream.whisper.model import Seen

# Positions heard before the first becomes final, 1.9 s: early ones see too little else.
# Measured with tiny.en; the reason, windows of 30 s in training, is every Whisper's.
WARM = 94
READ = 520  # samples: position j reads up to 320 j + 520 (half an FFT, two frames, one convolution)


@dataclass(frozen=True, slots=True)
class Closing:
    """Silence behind the last audio, in positions of 20 ms, so that a model sees that it ends.

    Whisper was trained on windows that silence fills up to 30 s. Encoded whole, 3 s of it do as
    well. Under the mask of streaming tiny.en as published needs 10 s, else words go missing and
    some clips loop; one that learnt its mask needs 3 s (docs/notes/0016-encoder-adapter.md).
    """

    masked: int = 500
    whole: int = 150

    @staticmethod
    def learnt() -> Closing:
        """For an encoder that has an adapter."""
        return Closing(masked=150)


@dataclass(frozen=True, slots=True)
class Grid:
    """When positions are encoded, in positions of 20 ms."""

    block: int
    look_ahead: int
    warm: int = WARM

    @staticmethod
    def of(block_ms: int, look_ahead_ms: int) -> Grid:
        """From options."""
        hops = (samples_of_ms(ms) // POSITION_HOP for ms in (block_ms, look_ahead_ms))
        return Grid(*hops)

    @staticmethod
    def heard(n_samples: int) -> int:
        """Positions whose audio is complete."""
        return max(0, (n_samples - READ) // POSITION_HOP + 1)

    def n_final(self, available: int, length: int) -> int:
        """How many positions a step makes final.

        Args:
            available: positions complete, from the segment's start.
            length: of them final before the step.
        """
        if available < self.warm:
            return 0
        return max(0, available - self.look_ahead - length)

    def plan(self, n_samples: int) -> list[tuple[int, int]]:
        """The steps of a clip that fits one segment: positions made final, look-ahead."""
        plan, length = [], 0
        for samples in range(self.block * POSITION_HOP, n_samples + 1, self.block * POSITION_HOP):
            available = self.heard(samples)
            n_final = self.n_final(available, length)
            if available > length:
                plan.append((n_final, available - length - n_final))
            length += n_final
        return plan


class Blocks:
    """The view of whole clips under the streaming mask. For the encoder.

    Its rows are columns of the picture above: `columns` makes them of a clip's positions.

    Attributes:
        n_final: of the columns, final ones come first, in order.
        block: (n_columns,) which block each belongs to.
        final: (n_columns,) whether it is final.

    Args:
        plan: positions made final and look-ahead of each block, as `Grid.plan` gives them.
        device: of the model.
    """

    def __init__(self, plan: Sequence[tuple[int, int]], device: torch.device) -> None:
        kept: list[tuple[int, int]] = []
        ahead: list[tuple[int, int]] = []
        for number, (n_final, n_ahead) in enumerate(plan):
            end = len(kept) + n_final
            kept += [(position, number) for position in range(len(kept), end)]
            ahead += [(position, number) for position in range(end, end + n_ahead)]
        self.n_final = len(kept)
        table = torch.tensor(kept + ahead, device=device).view(-1, 2)
        self.positions, self.block = table.unbind(1)
        self.final = torch.arange(len(table), device=device) < self.n_final
        self._mask = self.seen_by(self.block)

    def columns(self, rows: Tensor) -> Tensor:
        """Rows (b, n_positions, d_model) of whole clips as (b, n_columns, d_model)."""
        return rows[:, self.positions]

    def seen_by(self, block: Tensor) -> Tensor:
        """Which columns are seen while a block is the last one heard.

        Args:
            block: (n,) numbers of blocks: of encoder rows, or of those in which tokens were said.

        Returns:
            (n, n_columns), True where seen.
        """
        earlier = self.final & (self.block <= block[:, None])
        return earlier | (~self.final & (self.block == block[:, None]))

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Nothing is stored."""
        return [Seen(keys, values, self._mask)]


class WholeText:
    """The view of whole texts: each token sees itself, those before it, and audio.

    Args:
        n: tokens of each text.
        cross: keys and values of the audio, as `TextDecoder.cross_rows` makes them.
        heard: (n, n_columns) or (b, 1, n, n_columns), True where a token hears; None: everything.
            `Blocks.seen_by` tells it from the blocks in which the tokens were said.
    """

    def __init__(self, n: int, cross: Tensor, heard: Tensor | None = None) -> None:
        self.positions = slice(0, n)
        self._cross, self._heard = cross, heard
        self._mask = torch.ones(n, n, dtype=torch.bool, device=cross.device).tril_()

    def append(self, layer: int, keys: Tensor, values: Tensor) -> Sequence[Seen]:
        """Nothing is stored."""
        return [Seen(keys, values, self._mask)]

    def cross(self, layer: int) -> Seen:
        """Of all the audio, as far as each token hears it."""
        keys, values = self._cross[:, layer]
        return Seen(keys, values, self._heard)
