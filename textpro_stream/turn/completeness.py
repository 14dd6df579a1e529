"""Is this a place where somebody would stop talking? Judged from the words alone.

A cheap stand-in for a trained end-of-turn model, behind the same figure: P(end of turn). It reads
English and the punctuation that the recognizer writes; it does not know the sound.

The levels are what one would bet if a pause were as likely inside a turn as at its end, measured
at 294 ends and 102 pauses with the text that tiny.en would have committed there (note 0001). The
full stop promises little: asked for the end of what it heard, the recognizer nearly always writes
one. A missing one, a comma and a word that wants another say more.
"""

from __future__ import annotations

import re

from textpro_stream.config import TurnOptions
from textpro_stream.contracts import OpenTurn, samples_of_ms

_FINISHED = 0.55  # full stop, question or exclamation mark
_BARE = 0.25  # no mark at all
_COMMA = 0.1
_OPEN = 0.05  # a word that wants another, or a dash

# A speaker goes on after these, whatever mark the recognizer puts behind them.
_OPEN_WORDS = frozenset(
    word
    for words in (
        "and but or nor because although unless until while whereas if than whether",
        "a an the my your our their its every",
        "of from into onto between during toward towards per via",
        "i we they i'm we're they're he's she's there's i'd i'll we'll i've we've",
        "um uh uhm er erm hmm",
    )
    for word in words.split()
)
# These end questions ("What is it for?"), so a mark behind them is believed.
_OPEN_IF_BARE = frozenset(
    word
    for words in ("with for to in on at by about", "as so that which is are was can")
    for word in words.split()
)
_WORD = re.compile(r"[a-z0-9']+")
_ENDING = re.compile(r"[\s\"')\]\N{RIGHT DOUBLE QUOTATION MARK}]+$")


# The P(end of turn) that ends a turn at `silence_ms`. From there it falls in a straight line to
# nothing at `silence_long_ms`: the longer the silence, the less the words have to promise.
_P_REQUIRED = 0.5


class Completeness:
    """An `EndOfTurn` that reads the words alone; silence only makes it ask for less."""

    def p_end(self, turn: OpenTurn, silence: int, /) -> float:
        """See `p_end_of_turn`."""
        return p_end_of_turn(turn.text)

    def p_required(self, silence: int, options: TurnOptions, /) -> float:
        """Half at `silence_ms`, nothing at `silence_long_ms`, a line between them."""
        least, most = samples_of_ms(options.silence_ms), samples_of_ms(options.silence_long_ms)
        return _P_REQUIRED * max(0, most - silence) / max(1, most - least)


def p_end_of_turn(text: str) -> float:
    """Probability that a turn ends after `text`, in [0, 1]; 0 if there are no words."""
    text = _ENDING.sub("", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    words = _WORD.findall(text.lower())
    if not words:
        return 0.0
    if words[-1] in _OPEN_WORDS or text.endswith(("..", "\N{HORIZONTAL ELLIPSIS}")):
        return _OPEN
    if text.endswith(("-", "\N{EN DASH}", "\N{EM DASH}")):
        return _OPEN
    if text.endswith((".", "!", "?")):
        return _FINISHED
    if text.endswith((",", ";", ":")):
        return _COMMA
    return _OPEN if words[-1] in _OPEN_IF_BARE else _BARE
