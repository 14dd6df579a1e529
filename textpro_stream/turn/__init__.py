"""Voice activity, endpointing, barge-in: who is speaking, and is the turn over?"""

from textpro_stream.turn.barge_in import BargeIn, BargeInSignal, echoes, is_backchannel
from textpro_stream.turn.completeness import Completeness, p_end_of_turn
from textpro_stream.turn.end_of_turn import load_end_of_turn
from textpro_stream.turn.endpoint import Endpointer
from textpro_stream.turn.vad import load_vad

__all__ = [
    "BargeIn",
    "BargeInSignal",
    "Completeness",
    "Endpointer",
    "echoes",
    "is_backchannel",
    "load_end_of_turn",
    "load_vad",
    "p_end_of_turn",
]
