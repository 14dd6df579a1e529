"""Hints for words that were not understood."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint naming the known word that looks most like this one, or all if none does."""
    known = list(known)
    name = word.rsplit(".", 1)[-1]
    close = [key for key in known if key.endswith(f".{name}")]  # right key, wrong section
    close = close or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(known[:12])}{', …' if len(known) > 12 else ''}"
