"""Rolling: when a segment ends, and what the next one hears again.

A segment holds at most one Whisper window. At a pause it gives way to a new one that hears the last
words again, so that work and memory stay bounded for speech of any length. A pure decision: nothing
is changed here. Positions are 20 ms, from the segment's origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from textpro_stream.whisper.draft import Drafted
from textpro_stream.whisper.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Rolling:
    """When and where. Positions are 20 ms."""

    # Whisper, of any size: windows of 30 s, and cost that grows with what is attended to.
    soft: int = 600  # positions after which a pause ends the segment: 12 s
    hard: int = 1100  # positions after which any word boundary does: 22 s
    utmost: int = 1350  # positions after which it ends even inside a word: 27 s of the 30
    reach: int = 400  # positions that a new segment may reach back: bounds the work of a roll, 8 s
    carried: int = 100  # positions of audio that it hears again, words forced: 2 s
    margin: int = 25  # positions kept before the look-ahead where there are no words: 0.5 s

    # Whisper's attention: where a word lies around the position it attends to.
    before: int = 12  # positions before the first carried word
    after: int = 6  # positions behind the last word at which the segment may be cut
    after_pause: int = 12  # the same where a pause follows
    covered: int = 12  # positions behind a word's attended one that still belong to it

    # tiny.en: it sometimes ends a text and stays silent; a fresh start lets it hear again.
    stalled: int = 200  # positions without a commit after which it gets one: 4 s
    unheard: int = 100  # mel frames of speech that must lie there for it: 1 s

    # English speech: its pauses.
    pause: int = 40  # positions after a word that are a pause: 0.8 s
    pause_closed: int = 10  # beyond the look-ahead, after punctuation: 0.2 s
    forgotten: int = 150  # positions without a word after which none is heard again: 3 s


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a segment stands after a block."""

    committed: Sequence[Drafted]  # words, carried ones included
    draft: Sequence[Drafted]
    length: int  # final encoder positions
    available: int  # positions complete
    look_ahead: int  # positions
    last: int  # the furthest that committed words attend to
    idle: int  # positions since a word was last committed
    unheard: int  # mel frames of speech behind the last word


@dataclass(frozen=True, slots=True)
class Roll:
    """Begin a new segment."""

    begin: int  # its origin, as a position of this one
    carried: tuple[Drafted, ...] = ()  # words that it hears again, in its positions


def roll(at: Standing, tokens: Tokens, rules: Rolling) -> Roll | None:
    """Whether to begin a new segment: at a pause, or at a word boundary when it must be."""
    words = at.committed
    if words and at.idle >= rules.stalled and at.unheard > rules.unheard:
        return Roll(min(at.last + rules.after, at.length))
    if at.length < rules.soft:
        return None
    silent = not at.draft and at.available - at.last > rules.forgotten
    if silent or (not words and at.length > rules.hard):
        return Roll(max(0, at.available - at.look_ahead - rules.margin))
    if not words:
        return None
    last = words[-1]
    gap = at.available - last.position  # nothing was said in it
    paused = gap > rules.pause
    closed = tokens.is_punctuation(last.token) and gap > at.look_ahead + rules.pause_closed
    at_word = not at.draft or tokens.starts_word(at.draft[0].token)
    must = at.length > rules.hard and (at_word or at.length > rules.utmost)
    if not (at_word and (paused or closed)) and not must:
        return None
    cut = last.position + (rules.after_pause if paused else rules.after)
    cut = min(max(cut, at.length - rules.reach), at.length)
    return _carry(words, cut, at.length, tokens, rules)


def _carry(words: Sequence[Drafted], cut: int, length: int, tokens: Tokens, rules: Rolling) -> Roll:
    """The words of the last seconds before a cut, from the beginning of one of them."""
    first = len(words)
    for i in range(len(words) - 1, -1, -1):
        if words[i].position < cut - rules.carried:
            break
        if tokens.starts_word(words[i].token):
            first = i
    begin = cut - rules.carried if first == len(words) else words[first].position - rules.before
    # A word may attend into the look-ahead; a segment begins with what is final.
    begin = min(max(0, begin), length)
    return Roll(
        begin, tuple(replace(d, position=max(0, d.position - begin)) for d in words[first:])
    )
