"""What is known of a pause, as numbers for `head.py`: the recogniser's ending, the mark, the words.

A recogniser is a language model that has heard the voice as well: what it would write after the
last word says more about a turn's end than anything made by hand (note 0014). The words' kind helps
where it is blind: digits in groups, a name that is spelled, a list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import Ending, OpenTurn
from textpro_stream.turn.completeness import p_end_of_turn

# log-probabilities after the last word, and behind the mark
ENDING = ("end", "full_stop", "comma", "question", "exclamation", "word", "closed")
# the mark that was written; none of them: a full stop
MARK = ("no_mark", "comma_written", "question_written", "exclamation_written", "dash_written")
WORDS = (
    "rule",
    "hesitates",
    "number_open",
    "number_whole",
    "spelling_open",
    "spelling_whole",
    "list_open",
    "list_whole",
    "only_opened",
    "takes_back",
)
NAMES = (*ENDING, *MARK, *WORDS)
_LEAST = -12.0  # natural log; less is as good as never

_NUMBERS = frozenset(
    word
    for words in ("zero one two three four five six seven eight nine", "oh double triple")
    for word in words.split()
)
_HESITATIONS = frozenset(("um", "uh", "uhm", "er", "erm", "hmm", "mm", "ah"))
# A last sentence of nothing else has only begun ("Can you please?"), or promises one ("Okay.").
_OPENERS = frozenset(
    word
    for words in (
        "please can could will would i we you it the my a i'm it's want need like to is",
        "and but so well okay ok um uh hmm hey hi hello yes yeah just maybe an",
    )
    for word in words.split()
)
# What a speaker begins with who says it anew: "Turn off the light. No."
_TAKES_BACK = frozenset(("no", "wait", "sorry", "actually", "hold", "hang"))
_SHORT = 3  # words: "no, wait, sorry"; a longer sentence is the new one
_WHOLE_NUMBER = 7  # digits: the shortest telephone number; what is said in groups is mostly one
_WORD = re.compile(r"[A-Za-z0-9']+")
_SENTENCE = re.compile(r"[^.?!]+")
_LAST_CLAUSE = re.compile(r"[^,;.?!]*[.?!]*\s*$")


def features(turn: OpenTurn) -> NDArray[np.float64] | None:
    """Numbers in the order of `NAMES`, (n,); None where the recogniser does not tell its ending."""
    if turn.ending is None:
        return None
    return np.array([*_ending(turn.ending), *_mark(turn.text), *_words(turn.text)])


def _ending(ending: Ending) -> list[float]:
    marks = (ending.full_stop, ending.comma, ending.question, ending.exclamation)
    others = sum(map(math.exp, (ending.end, *marks)))
    word = math.log(max(1e-4, 1.0 - others))
    return [max(_LEAST, value) for value in (ending.end, *marks, word, ending.closed)]


def _mark(text: str) -> list[float]:
    text = text.rstrip()
    last = text[-1:]
    dashed = last in {"-", "\N{EN DASH}", "\N{EM DASH}", "\N{HORIZONTAL ELLIPSIS}"}
    dashed = dashed or text.endswith("..")
    known = bool(last) and last in ".?!,;:-"
    return [
        float(not known),
        float(bool(last) and last in ",;:"),
        float(last == "?"),
        float(last == "!"),
        float(dashed),
    ]


def _words(text: str) -> list[float]:
    words = _WORD.findall(text)
    last = words[-1].lower() if words else ""
    digits, letters = _trailing(words, _digits), _trailing(words, _letter)
    spelled = words[-1 - letters] if 0 < letters < len(words) else ""
    enough = letters >= max(2, len(spelled))  # letters stand behind the name that they spell
    clause = _LAST_CLAUSE.search(text)
    item = clause.group().lower().split() if clause else []
    *before, sentence = _sentences(text) or [[]]
    taken_back = bool(before) and len(sentence) <= _SHORT and sentence[0] in _TAKES_BACK
    listed, joined = text.count(",") > 0 and len(item) <= 4, "and" in item or "or" in item
    return [
        p_end_of_turn(text),
        float(last in _HESITATIONS),
        float(2 <= digits < _WHOLE_NUMBER),
        float(digits >= _WHOLE_NUMBER),
        float(letters > 0 and not enough),
        float(letters > 0 and enough),
        float(listed and not joined),
        float(listed and joined),
        float(bool(sentence) and _OPENERS.issuperset(sentence)),
        float(taken_back),
    ]


def _sentences(text: str) -> list[list[str]]:
    """The words of each, small; marks alone are none."""
    split = (_WORD.findall(part.lower()) for part in _SENTENCE.findall(text))
    return [words for words in split if words]


def _trailing(words: Sequence[str], count: Callable[[str], int]) -> int:
    """Sum of `count` over the last words, back to one that has none."""
    total = 0
    for word in reversed(words):
        if not (n := count(word)):
            break
        total += n
    return total


def _digits(word: str) -> int:
    return len(word) if word.isdigit() else int(word.lower() in _NUMBERS)


def _letter(word: str) -> int:
    """Letters that are spelled: "K", and "KA" where the recogniser writes two as one word."""
    return len(word) if word.isalpha() and word.isupper() and word not in {"I", "OK"} else 0
