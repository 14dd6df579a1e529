"""Model name -> verified local folder."""

from textpro_stream.store.catalogue import Kind, known_names
from textpro_stream.store.shelf import Problem, cache_root
from textpro_stream.store.store import (
    Entry,
    defaults,
    entries,
    pull,
    remove,
    resolve,
    verify,
    where,
)

__all__ = [
    "Entry",
    "Kind",
    "Problem",
    "cache_root",
    "defaults",
    "entries",
    "known_names",
    "pull",
    "remove",
    "resolve",
    "verify",
    "where",
]
