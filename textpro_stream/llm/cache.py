"""A KV cache that follows a list of rows.

What it shall hold is a list, so every change is the same move: compare the list wanted with the
list held, crop to the common beginning, append the rest. Its memory can be given back at any time;
it is built anew from the list. Knows neither messages nor turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from textpro_stream.contracts import Observer, Session
from textpro_stream.llm.fusion import Row

if TYPE_CHECKING:
    from textpro_stream.llm.language_model import LanguageModel


class Cache:
    """One conversation's rows in the LLM.

    Args:
        model: shared weights.
        capacity: most rows that it can hold.
        observer: told of "prefill".
    """

    def __init__(self, model: LanguageModel, capacity: int, observer: Observer) -> None:
        self._model, self._capacity, self._observer = model, capacity, observer
        self._session: Session | None = None
        self._held: list[Row] = []
        self._rows: list[Row] = []

    @property
    def rows(self) -> Sequence[Row]:
        """What it shall hold, and does once it is needed."""
        return self._rows

    @property
    def held(self) -> Sequence[Row]:
        """What it holds now; nothing after `free`."""
        return self._held

    def follow(self, rows: list[Row]) -> None:
        """Hold these rows: crops to the beginning shared with those held, prefills the rest."""
        self._rows = rows
        self._sync()

    def decode(self, token: int) -> None:
        """Append one token, by the step that is made for one."""
        self._ready().decode(token)
        self._held.append(token)
        self._rows.append(token)

    def logits(self) -> Tensor:
        """Scores of what follows the last row, float32, shape (n_vocabulary,)."""
        return self._ready().logits()

    def free(self) -> None:
        """Give the memory back. What needs it next builds it anew, whatever had failed."""
        self._session, self._held = None, []

    def _ready(self) -> Session:
        return self._session or self._sync()

    def _sync(self) -> Session:
        if self._session is None:
            self._held = []
            self._session = self._model.backbone.open(self._capacity)
        common = 0
        for wanted, held in zip(self._rows, self._held, strict=False):
            if wanted != held:
                break
            common += 1
        self._session.crop(common)
        del self._held[common:]
        if missing := self._rows[common:]:
            with self._observer.span("prefill"):
                self._session.prefill(self._model.rows(missing))
            self._held += missing
        return self._session


def decode_together(caches: Sequence[Cache], tokens: Sequence[int]) -> None:
    """Append one token to each of several caches, in one step of the model that they share.

    What `Cache.decode` does for one; `logits` then costs nothing. In int8 a row is rounded a
    little differently beside others, so a near tie may fall the other way (docs/notes/0009).

    Args:
        caches: over one model, no two the same.
        tokens: one for each.

    Raises:
        StageError: one has no room; nothing was appended.
    """
    backbone = caches[0]._model.backbone
    backbone.decode_together([cache._ready() for cache in caches], tokens)
    for cache, token in zip(caches, tokens, strict=True):
        cache._held.append(token)
        cache._rows.append(token)
