"""A real-time streaming voice assistant: words and tone of voice reach the LLM while you speak."""

__version__ = "0.1.0"
