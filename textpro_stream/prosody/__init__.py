"""Token states, pitch and energy -> sliding-window prosody. Knows nothing of the LLM."""

from textpro_stream.prosody.windows import ProsodyTracker

__all__ = ["ProsodyTracker"]
