"""Fusion (words + prosody -> rows), history, KV cache, sampling; behind `ports.LlmEngine`."""

from textpro_stream.llm.dialogue import Dialogue
from textpro_stream.llm.local import LocalDialogue, LocalEngine
from textpro_stream.llm.model import LanguageModel

__all__ = ["Dialogue", "LanguageModel", "LocalDialogue", "LocalEngine"]
