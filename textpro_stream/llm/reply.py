"""The reply being decoded: its tokens, their text, and why it ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor

from textpro_stream.errors import StageError
from textpro_stream.llm.chat import TextStream
from textpro_stream.llm.sampling import Sampler

Reason = Literal["", "stop", "length"]


class Reply:
    """Grows by one token at a time; knows nothing of the cache.

    Args:
        text: decoder of this reply.
        sampler: chooser of this reply.
        stops: ids that end it; they are not part of it.
        max_tokens: its bound.
    """

    def __init__(
        self, text: TextStream, sampler: Sampler, stops: frozenset[int], max_tokens: int
    ) -> None:
        self.tokens: list[int] = []
        self.texts: list[str] = []  # one per token; "" while a character is still in parts
        self.reason: Reason = ""
        self._text = text
        self._sampler = sampler
        self._stops = stops
        self._max_tokens = max_tokens

    def advance(self, logits: Callable[[], Tensor], *, full: bool) -> None:
        """Choose one more token, or end.

        Raises:
            StageError: the logits are not finite.

        Args:
            logits: after the last token; asked for only if there is to be another.
            full: no row is left for another.
        """
        if full or self._max_tokens <= 0:
            self.reason = "length"
            return
        values = logits()
        token = self._sampler.choose(values, self.tokens)
        if not math.isfinite(float(values[token])):
            raise StageError("the LLM gave no number where a token was due (NaN); ask again")
        if token in self._stops:
            self.reason = "stop"
            return
        self.tokens.append(token)
        self.texts.append(self._text.push(token))
        if len(self.tokens) >= self._max_tokens:
            self.reason = "length"

    def heard(self, characters: int | None) -> list[int]:
        """The tokens up to the one that holds the last heard character; None: all."""
        if characters is None:
            return list(self.tokens)
        total = 0
        for n, text in enumerate(self.texts):
            if total >= characters:
                return self.tokens[:n]
            total += len(text)
        return list(self.tokens)
