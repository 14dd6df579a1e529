"""What a run says beside its output: lines on standard error that name us."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textpro_stream.pipeline import Engine


def tell(message: str) -> None:
    """One line, now."""
    print(f"textpro: {message}", file=sys.stderr, flush=True)


def tell_what_is_off(engine: Engine) -> None:
    """What this run does without."""
    if engine.llm is not None and engine.llm.notice:
        tell(engine.llm.notice)
