"""Is this a place where somebody would stop talking? Judged from the words alone.

A cheap stand-in for a trained end-of-turn model, behind the same figure: P(end of turn). It reads
English and the punctuation that the recognizer writes; it does not know the sound.
"""

from __future__ import annotations

import re

# After these a speaker nearly always goes on. Words that end many real questions ("on", "in",
# "for", "with", "about", "that", "this") are left out: "what is it for" is complete.
_OPEN_WORDS = frozenset(
    word
    for words in (
        "and but or nor because although unless until while whereas if than whether so",
        "a an the my your our their its every",
        "of from into onto between during toward towards per via",
        "i we he she they i'm we're they're he's she's there's i'd i'll we'll i've we've",
        "um uh uhm er erm hmm",
    )
    for word in words.split()
)
_WORD = re.compile(r"[a-z0-9']+")


def p_end_of_turn(text: str) -> float:
    """Probability that a turn ends after `text`, in [0, 1]; 0 if there are no words."""
    text = text.rstrip(" \t\n\"')\N{RIGHT DOUBLE QUOTATION MARK}")
    words = _WORD.findall(text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    if not words:
        return 0.0
    if text.endswith(("...", "\N{HORIZONTAL ELLIPSIS}", "-", "\N{EM DASH}", "\N{EN DASH}")):
        return 0.1
    if words[-1] in _OPEN_WORDS:
        return 0.1
    if text.endswith((".", "!", "?")):
        return 0.9
    if text.endswith((",", ";", ":")):
        return 0.2
    return 0.4
