"""A real-time streaming voice assistant: words and tone of voice reach the LLM while you speak.

    engine = await Engine.load()
    async with engine.open() as talk:
        talk.feed(source)
        async for event in talk:
            ...

The names below load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textpro_stream.config import Settings as Settings
    from textpro_stream.contracts import AudioChunk as AudioChunk
    from textpro_stream.errors import TextproError as TextproError
    from textpro_stream.events import Event as Event
    from textpro_stream.pipeline import Conversation as Conversation
    from textpro_stream.pipeline import Engine as Engine

__version__ = "0.1.0"

_HOMES = {
    "AudioChunk": "contracts",
    "Conversation": "pipeline",
    "Engine": "pipeline",
    "Event": "events",
    "Settings": "config",
    "TextproError": "errors",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
