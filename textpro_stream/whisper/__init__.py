"""WhisperPro: chunked encoder, decoder loop with commit rule, tokens and their states."""

from textpro_stream.whisper.recognizer import Recognizer, WhisperPro

__all__ = ["Recognizer", "WhisperPro"]
