"""Where in a reply's audio its text lies, and the other way round.

A model should remember what was said aloud, not what it had in mind.
"""

from __future__ import annotations

import bisect

from textpro_stream.contracts import SpokenChunk


class SpokenText:
    """Audio of one reply that went out, and the characters that it stands for."""

    def __init__(self) -> None:
        self.rate_hz = 1  # of the voice; known with the first chunk
        self._ends = [0]  # samples
        self._text_ends = [0]  # characters

    def add(self, chunk: SpokenChunk) -> None:
        """A chunk went out."""
        self.rate_hz = chunk.rate_hz
        self._ends.append(chunk.start + len(chunk.samples))
        self._text_ends.append(chunk.text_end)

    @property
    def samples(self) -> int:
        """Of audio, so far; 0 before the first chunk."""
        return self._ends[-1]

    def characters_at(self, samples: float) -> int:
        """Characters of the text that are spoken by this place in the audio."""
        i = bisect.bisect_right(self._ends, samples)
        if i == len(self._ends):
            return self._text_ends[-1]
        share = (samples - self._ends[i - 1]) / (self._ends[i] - self._ends[i - 1])
        before = self._text_ends[i - 1]
        return before + int(share * (self._text_ends[i] - before))


def to_word(text: str, n_characters: int) -> str:
    """The beginning of a text up to a position, less a word that the position cuts."""
    if n_characters >= len(text):
        return text
    cut = text[:n_characters]
    following = text[n_characters]
    if not (following.isalnum() or following in "'\N{RIGHT SINGLE QUOTATION MARK}"):
        return cut
    return cut[: max((i for i, c in enumerate(cut) if c.isspace()), default=0)].rstrip()
