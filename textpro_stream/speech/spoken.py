"""Written text -> what a voice should say, with the way back to every character.

Markdown, emoji and the tail of a link are left out; positions in what is said map to positions in
what was written. Marks are markup only in pairs or at a word's edge: a star between numbers is a
sum. What an English voice reads badly is written out (`english.py`); others read it themselves.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from textpro_stream.speech.english import said_in_english

# First match wins. What a named group holds is said; the rest of its match is not.
_MARKUP = re.compile(
    r"""
      !?\[(?P<label>[^\]\n]*)\]\([^)\s]*\)                # a link or picture: its label
    | https?://(?:www\.)?(?P<host>[^\s/?\#]+[^\s/?\#.,;:!)])[^\s]*?(?=[.,;:!?)]*(?:\s|$))
    | ^[ \t]*(?:\#{1,6}[ \t]+|>[ \t]?|[-*+•][ \t]+)       # a heading, quotation or list item
    | ^[ \t]*(?:[-*_][ \t]*){3,}$                         # a rule
    | ^```.*$                                             # a fence around code
    | (?P<times>(?<=\d)\*(?=\d) | (?<=[\w)][ ])\*(?=[ ][\w(]) | (?<=\d)\*(?=[a-zA-Z]\b)
        | (?<=\b[a-zA-Z])\*(?=[a-zA-Z]\b))                # a sum
    | (?P<power>(?<=\d)\*\*(?=\d) | (?<=[\w)])\^(?=[\w(-]))
    | [*~`|]+                                             # emphasis, code, table
    | (?<![^\W_])_+ | _+(?![^\W_])                        # emphasis, but not snake_case
    """,
    re.VERBOSE | re.MULTILINE,
)
# Emoji, their colours, joiners and frames; what no font knows.
_UNSPEAKABLE = ("So", "Sk", "Cf", "Me", "Cn", "Co", "Cs")
SUMS = {"times": "×", "power": "^"}  # noqa: RUF001  # the sign is meant
_KEPT_SYMBOLS = "°№℃℉©®™"


@dataclass(frozen=True, slots=True)
class SpokenForm:
    """What to say, and where each character of it was written."""

    text: str
    origins: tuple[int, ...]  # of each character of `text`, rising
    length: int  # of what was written

    def written(self, position: int) -> int:
        """Where the character at a position of `text` was written; behind the end: the end."""
        return self.origins[position] if position < len(self.origins) else self.length


def spoken_form(written: str, *, english: bool = True) -> SpokenForm:
    """Leave out what cannot be said, and write out what a voice would read wrongly.

    Args:
        written: a clause.
        english: the voice speaks English.
    """
    kept: list[tuple[str, int]] = []
    at = 0
    for match in _MARKUP.finditer(written):
        _keep(written, at, match.start(), kept)
        if match.lastgroup in SUMS:
            kept.append((SUMS[match.lastgroup], match.start()))
        elif match.lastgroup:
            _keep(written, *match.span(match.lastgroup), kept)
        at = match.end()
    _keep(written, at, len(written), kept)
    if english:
        kept = _in_words(kept)
    return SpokenForm(
        "".join(character for character, _ in kept),
        tuple(origin for _, origin in kept),
        len(written),
    )


def _in_words(kept: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """With sums, money and the like in words; their letters have their places among the digits."""
    said: list[tuple[str, int]] = []
    at = 0
    for start, end, words in said_in_english("".join(character for character, _ in kept)):
        said += kept[at:start]
        for i, character in enumerate(words):
            said.append((character, kept[start + i * (end - start) // len(words)][1]))
        at = end
    return said + kept[at:]


def _keep(written: str, start: int, end: int, kept: list[tuple[str, int]]) -> None:
    """Append the characters that can be said, each with where it was written."""
    for origin in range(start, end):
        character = written[origin]
        # The mark that chooses an emoji's looks counts as an accent in Unicode.
        category = "So" if character == "\ufe0f" else unicodedata.category(character)
        if category in _UNSPEAKABLE and character not in _KEPT_SYMBOLS:
            continue
        if character == "\n":  # the end of a line is a pause, even where nobody wrote one
            last = next((c for c, _ in reversed(kept) if c != " "), "")
            if last.isalnum():
                kept.append((",", origin))
        elif category != "Cc" and character != "_":
            kept.append((character, origin))
            continue
        kept.append((" ", origin))
