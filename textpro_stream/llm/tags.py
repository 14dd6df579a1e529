"""A turn's tone in words behind it, for a language model that was trained on text alone.

    How long does it take? (I sound angry.)

In the first person it is read as part of what the user says; behind the words it changes nothing
that was read before, and is known in time: with the last word. What is not sure is not said, nor
that somebody sounds as ever (docs/notes/0017-tone-in-words.md).
"""

from __future__ import annotations

from textpro_stream.contracts import AGITATED, ToneReading

# How a voice sounds, by the label of a readout. Others are not said: a label need be no adjective.
ADJECTIVES = {
    "anger": "angry",
    "boredom": "bored",
    "disgust": "disgusted",
    "fear": "afraid",
    "happiness": "happy",
    "sadness": "sad",
    AGITATED: "agitated",
}


def tag_of(tone: ToneReading | None) -> str:
    """What is said of a turn's tone, with the space before it; "" of one that is neutral or unsure.

    Args:
        tone: of the whole turn; None: typed, or nothing shall be told.
    """
    adjective = ADJECTIVES.get(tone.named) if tone is not None else None
    return f" (I sound {adjective}.)" if adjective else ""
