"""Fusion (words + prosody -> rows), KV-cache session, sampling, dialogue memory."""

from textpro_stream.llm.dialogue import Dialogue
from textpro_stream.llm.language_model import LanguageModel

__all__ = ["Dialogue", "LanguageModel"]
