"""What a run says once about what it does without."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textpro_stream.pipeline import Engine


def tell_what_is_off(engine: Engine) -> None:
    """Say on standard error what this run does without."""
    if engine.llm is not None and engine.llm.notice:
        print(f"textpro: {engine.llm.notice}", file=sys.stderr, flush=True)
