"""From logits to the next token: penalty, temperature, top-p, greedy.

The rules and their order are those of transformers' logits processors, so that the same options
give the same distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from textpro_stream.config import LlmOptions
from textpro_stream.errors import StageError


class Sampler:
    """Chooses the tokens of one reply.

    Args:
        options: temperature, top_p, repetition_penalty.
        seed: of this reply's own generator; greedy ignores it.
        device: where the logits are.
    """

    def __init__(self, options: LlmOptions, seed: int, device: torch.device) -> None:
        self._options = options
        self._random: torch.Generator | None = None
        if options.temperature > 0:
            self._random = torch.Generator(device=device).manual_seed(seed)

    def choose(self, logits: Tensor, said: Sequence[int]) -> int:
        """The next token. Waits for the device once: this is where a step is read.

        Args:
            logits: (n_vocabulary,) float32; not written.
            said: ids that the repetition penalty applies to.

        Raises:
            StageError: the logits are not finite.
        """
        options = self._options
        scores = logits
        if options.repetition_penalty != 1.0 and said:
            scores = penalise(scores, said, options.repetition_penalty)
        if self._random is not None:
            likely = nucleus(scores / options.temperature, options.top_p).softmax(dim=-1)
            # The largest of p / Exp(1) is a draw from p. Unlike torch.multinomial it gives an
            # answer to NaN too, where that would leave a CUDA device unusable; its logit tells.
            scores = likely / torch.empty_like(likely).exponential_(generator=self._random)
        best = scores.argmax(dim=0, keepdim=True)
        # One transfer for all three: float64 holds an id and a score exactly.
        found = (best, scores.gather(0, best), logits.gather(0, best))
        token, score, logit = torch.cat([value.double() for value in found]).tolist()
        if math.isnan(score) or not math.isfinite(logit):
            raise StageError("the LLM gave no number where a token was due (NaN); ask again")
        return int(token)


def penalise(logits: Tensor, said: Sequence[int], penalty: float) -> Tensor:
    """Scores of the ids in `said` made less likely: positive ones divided, negative multiplied.

    CTRL's rule (Keskar et al., 2019); an id counts once, however often it was said.
    """
    index = torch.tensor(sorted(set(said)), dtype=torch.long).to(logits.device, non_blocking=True)
    scores = logits.gather(0, index)
    return logits.scatter(0, index, torch.where(scores < 0, scores * penalty, scores / penalty))


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Everything outside the smallest set that holds `top_p` of the probability set to -inf.

    The most likely token always stays (Holtzman et al., 2019).
    """
    if top_p >= 1.0:
        return logits
    ascending, order = logits.sort()
    tail = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1.0 - top_p
    tail[-1] = False
    return logits.masked_fill(tail.new_zeros(len(tail)).scatter(0, order, tail), -torch.inf)
