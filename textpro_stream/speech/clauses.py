"""Streaming reply text -> clauses worth saying on their own.

The first clause is cut early, so that the voice can begin while the rest is still being written,
and the second so that it is written while the first is said; later ones are whole sentences, which
sound better. Joined, the clauses are the text, character by character: positions in it stay true.
Leaving out what cannot be said is the voice's work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Words of the first clauses: without a pause one ends before a linking word behind the fewest, or
# at the most. Six words sound for some 2 s, in which even at 50 ms a token fourteen more are
# written. The listener waits for the first ones: up to eight of them were 80 ms more at 14 ms a
# token, and Whisper understood the speech no better.
OPENING = ((4, 6), (8, 14))
MOST_WORDS = 30  # of a sentence; a longer one is cut at its last comma, or right here

# Words that open a phrase: a cut before one sounds like taking breath.
# fmt: off
LINKING = frozenset({
    "and", "or", "but", "so", "because", "which", "that", "who", "where", "when", "while", "if",
    "as", "than", "to", "of", "in", "on", "at", "by", "for", "from", "with", "into", "about",
    "after", "before", "between", "during", "is", "are", "was", "were",
})
# A full stop behind these ends no sentence. Others (etc., p.m., Inc.) end one if a capital follows.
NEVER_LAST = frozenset({
    "mr", "mrs", "ms", "dr", "prof", "st", "gen", "sen", "rep", "rev", "hon", "capt", "col", "lt",
    "sgt", "vs", "approx", "fig", "no", "e.g", "i.e",
})
# fmt: on

# Scripts that put no space between words end their sentences in full-width marks.
_WORD = re.compile(r"[^\s。！？，、；：]*[。！？，、；：]+|[^\s。！？，、；：]+")  # noqa: RUF001  # meant
_GAP = re.compile(r"\s*")
_CLOSING = "\"'”’)]*_`~»"  # noqa: RUF001  # curly quotes are meant
_SENTENCE = ("!", "?", "…", "。", "！", "？")  # noqa: RUF001  # full-width marks are meant
_PHRASE = (",", ";", ":", "—", "–", "，", "、", "；", "：")  # noqa: RUF001  # meant


@dataclass(frozen=True, slots=True)
class Clause:
    """A piece of the reply."""

    text: str  # as the LLM wrote it, markdown and all
    start: int  # characters of the reply before it


class ClauseSplitter:
    """One reply, pushed in pieces. How it is cut into pieces changes nothing."""

    def __init__(self) -> None:
        self._text = ""  # not given out yet
        self._start = 0  # of that, in the reply
        self._n_clauses = 0  # given out
        self._words: list[tuple[int, int]] = []  # of it, judged and kept together
        self._pauses: list[int] = []  # ends of those words that a comma follows

    def push(self, text: str) -> list[Clause]:
        """Append text; give the clauses it completed.

        A word is judged once the first character of the next is known.
        """
        self._text += text
        clauses = []
        while (end := self._next_end()) is not None:
            clauses.append(self._take(end))
        return clauses

    def finish(self) -> list[Clause]:
        """The reply ended; give the rest."""
        return [self._take(len(self._text))] if self._text else []

    def _take(self, end: int) -> Clause:
        clause = Clause(self._text[:end], self._start)
        self._text = self._text[end:]
        self._start += end
        self._n_clauses += 1
        self._words, self._pauses = [], []
        return clause

    def _next_end(self) -> int | None:
        judged = self._words[-1][1] if self._words else 0
        for match in _WORD.finditer(self._text, judged):
            gap = _GAP.match(self._text, match.end())
            assert gap is not None, "it matches nothing, too"
            if gap.end() == len(self._text):
                return None
            self._words.append(match.span())
            end = self._judge(match.group(), gap.group(), self._text[gap.end()])
            if end is not None:
                return end
        return None

    def _judge(self, word: str, gap: str, following: str) -> int | None:
        """Where to cut, having read one more word; None to read on."""
        end = self._words[-1][1]
        if not any(character.isalnum() for character in self._text[:end]):
            return None
        bare = word.rstrip(_CLOSING)
        if "\n" in gap or self._ends_sentence(bare, following):
            return end
        n_words = len(self._words)
        if bare.endswith(_PHRASE):
            self._pauses.append(end)
        if self._n_clauses == 0 and self._pauses:
            return end
        if self._n_clauses < len(OPENING):
            fewest, most = OPENING[self._n_clauses]
            if n_words > fewest and bare.lower() in LINKING:
                return self._words[-2][1]
        else:
            most = MOST_WORDS
        if n_words < most:
            return None
        return self._pauses[-1] if self._pauses else end

    def _ends_sentence(self, bare: str, following: str) -> bool:
        if bare.endswith(_SENTENCE):
            return True
        if not bare.endswith(".") or following.islower():
            return False
        stem = bare.lstrip("\"'“‘([*_`").removesuffix(".")  # noqa: RUF001  # meant
        initial = len(stem) == 1 and stem.isalpha() and stem != "I"
        numbers_an_item = stem.isdigit() and len(self._words) == 1
        return not (initial or numbers_an_item or stem.lower() in NEVER_LAST)
