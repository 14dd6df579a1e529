"""Reply text -> clauses -> audio, in a worker process.

The worker imports this package too, so what it does not need is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textpro_stream.speech.clauses import Clause as Clause
    from textpro_stream.speech.clauses import ClauseSplitter as ClauseSplitter
    from textpro_stream.speech.voice import Voice as Voice
    from textpro_stream.speech.voice import open_voice as open_voice

_HOMES = {
    "Clause": "clauses",
    "ClauseSplitter": "clauses",
    "Voice": "voice",
    "open_voice": "voice",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
