"""Which `EndOfTurn` an option names."""

from __future__ import annotations

from functools import lru_cache

from textpro_stream.config import TurnOptions
from textpro_stream.ports import EndOfTurn
from textpro_stream.turn.completeness import Completeness
from textpro_stream.turn.head import Head


def load_end_of_turn(options: TurnOptions) -> EndOfTurn:
    """The one that `options.end_of_turn` names; shared by all conversations.

    Raises:
        WeightsError: the head's weights are missing.
    """
    return Completeness() if options.end_of_turn == "words" else _shipped_head()


@lru_cache(maxsize=1)
def _shipped_head() -> Head:
    return Head.load()
