"""Fusion (words + prosody -> rows), history, KV cache, sampling; behind `ports.LlmEngine`."""

from textpro_stream.llm.dialogue import Dialogue
from textpro_stream.llm.language_model import LanguageModel
from textpro_stream.llm.local import LocalDialogue, LocalEngine

__all__ = ["Dialogue", "LanguageModel", "LocalDialogue", "LocalEngine"]
