"""WhisperPro: chunked encoder, decoder loop with commit rule, tokens and their states."""

from textpro_stream.whisper.offline import Offline
from textpro_stream.whisper.policy import Policy
from textpro_stream.whisper.recognizer import Recognizer
from textpro_stream.whisper.whisper_pro import WhisperPro
from textpro_stream.whisper.work import Work

__all__ = ["Offline", "Policy", "Recognizer", "WhisperPro", "Work"]
