"""A language model whose sessions tell of their work, and fail when asked to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from textpro_stream.llm import LanguageModel
from textpro_stream.ports import Session


class Watch:
    """What the sessions of one model did; a `Backbone` around its own."""

    def __init__(self, backbone: Any) -> None:
        self._backbone = backbone
        self.prefills: list[int] = []  # rows of each
        self.decoded = 0  # tokens
        self.failing = False  # whatever is computed fails
        self.blank = False  # logits are no numbers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    @property
    def prefilled(self) -> int:
        """Rows, all in all."""
        return sum(self.prefills)

    def open(self, capacity: int) -> Session:
        return WatchedSession(self._backbone.open(capacity), self)

    def computing(self) -> None:
        if self.failing:
            raise RuntimeError("out of memory")


class WatchedSession:
    def __init__(self, session: Session, watch: Watch) -> None:
        self._session, self._watch = session, watch

    @property
    def length(self) -> int:
        return self._session.length

    def crop(self, length: int) -> None:
        self._session.crop(length)

    def prefill(self, rows: torch.Tensor) -> None:
        self._watch.computing()
        self._watch.prefills.append(len(rows))
        self._session.prefill(rows)

    def decode(self, token: int) -> None:
        self._watch.computing()
        self._watch.decoded += 1
        self._session.decode(token)

    def logits(self) -> torch.Tensor:
        self._watch.computing()
        logits = self._session.logits()
        return torch.full_like(logits, torch.nan) if self._watch.blank else logits


def watched(model: LanguageModel) -> tuple[LanguageModel, Watch]:
    """The same model, watched."""
    watch = Watch(model.backbone)
    return replace(model, backbone=watch), watch
