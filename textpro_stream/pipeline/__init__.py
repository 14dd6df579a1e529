"""The asyncio engine: wires the stages, owns the tasks, turns results into events, traces."""

from textpro_stream.pipeline.conversation import Conversation
from textpro_stream.pipeline.engine import Engine
from textpro_stream.telemetry.trace import Trace

__all__ = ["Conversation", "Engine", "Trace"]
