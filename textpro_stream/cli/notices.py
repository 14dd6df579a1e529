"""What a run says once, before it starts, about what it does without."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textpro_stream.config import Settings
    from textpro_stream.pipeline import Engine


def fusion_notice(settings: Settings) -> str | None:
    """One line where tone of voice does not reach the LLM."""
    if settings.llm.fusion in ("interleave", "global") or settings.llm.projector:
        return None
    return (
        "tone of voice is measured and shown but does not reach the LLM: no trained projector"
        " (--fusion interleave --projector FILE)"
    )


def tell_what_is_off(engine: Engine) -> None:
    """Say on standard error what this run does without."""
    notice = fusion_notice(engine.settings)
    if engine.llm is not None and notice is not None:
        print(f"textpro: {notice}", file=sys.stderr, flush=True)
