"""Which models fail, and how often: what readiness and metrics are asked of."""

from __future__ import annotations

from collections import Counter
from typing import Literal

Model = Literal["asr", "llm", "voice"]

IN_A_ROW = 3  # failures of one model without a success between: it is broken, not unlucky


class Health:
    """Shared by all conversations of an engine. Written from the event loop only."""

    def __init__(self) -> None:
        self.faults: Counter[Model] = Counter()  # ever
        self._row: Counter[Model] = Counter()

    def failed(self, model: Model) -> None:
        """A step of this model raised."""
        self.faults[model] += 1
        self._row[model] += 1

    def worked(self, model: Model) -> None:
        """It did what it was asked for."""
        self._row[model] = 0

    @property
    def healthy(self) -> bool:
        """No model has failed so often in a row that it must be taken for broken."""
        return all(count < IN_A_ROW for count in self._row.values())
