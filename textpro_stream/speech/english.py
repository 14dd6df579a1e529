# ruff: noqa: RUF001, signs of many kinds are meant
"""Sums, money, dates, telephone numbers and the like, as an English speaker says them.

Voices read digits well and signs badly: a minus is lost, `$3.50` is "dollar three point five zero".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from re import Match

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
MONEY = {  # sign: one, many, of its hundredths one, many
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "", ""),
}
TENS = (
    "hundreds", "tens", "twenties", "thirties", "forties",
    "fifties", "sixties", "seventies", "eighties", "nineties",
)  # fmt: skip
PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 6: "sixth", 8: "eighth", 10: "tenth"}
COUNTS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIGNS = {
    "×": "times", "÷": "divided by", "+": "plus", "=": "equals", "≈": "is about", "≠": "is not",
    "≤": "is at most", "≥": "is at least", "<": "is less than", ">": "is greater than",
    "±": "plus or minus", "^": "to the power of",
}  # fmt: skip
AMOUNT = r"(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?"
LARGE = r"(?:[ ](thousand|million|billion|trillion)\b)?"


def _date(match: Match[str]) -> str | None:
    year, month, day = (int(part) for part in match.groups())
    return f"{MONTHS[month - 1]} {day}, {year}" if 1 <= month <= 12 and 1 <= day <= 31 else None


def _money_before(match: Match[str]) -> str:
    return _money(*match.groups())


def _money_behind(match: Match[str]) -> str:
    whole, rest, large, sign = match.groups()
    return _money(sign, whole, rest, large)


def _money(sign: str, whole: str, rest: str | None, large: str | None) -> str:
    one, many, cent, cents = MONEY[sign]
    whole = whole.replace(",", "")
    if large:
        return f"{whole}{'.' + rest if rest else ''} {large} {many}"
    if not rest or (len(rest) == 2 and cents and not int(rest)):
        return f"{whole} {one if whole == '1' else many}"
    if len(rest) != 2 or not cents:
        return f"{whole}.{rest} {many}"
    small = f"{int(rest)} {cent if int(rest) == 1 else cents}"
    return small if not int(whole) else f"{whole} {one if whole == '1' else many} and {small}"


def _telephone(match: Match[str]) -> str:
    groups = [" ".join(group) for group in re.findall(r"\d+", match[0])]
    return ("plus " if match[0].startswith("+") else "") + ", ".join(groups)


def _decade(match: Match[str]) -> str:
    century, ten = match[1] or "", int(match[2])
    if not ten:
        return f"{int(century) // 10} thousands" if century[1:] == "0" else f"{century} hundreds"
    return f"{century} {TENS[ten]}".strip()


def _fraction(match: Match[str]) -> str | None:
    whole, above, below = match[1], int(match[2]), int(match[3])
    if below not in PARTS or not 0 < above < below:
        return None
    part = PARTS[below]
    if above > 1:
        part = "halves" if below == 2 else f"{part}s"
    said = f"{COUNTS[above]} {part}"
    return f"{whole.strip()} and {'a half' if said == 'one half' else said}" if whole else said


def _degrees(match: Match[str]) -> str:
    number, sign = match[1], match[2]
    scale = {"C": " Celsius", "℃": " Celsius", "F": " Fahrenheit", "℉": " Fahrenheit"}
    return f"{number} {'degree' if number == '1' else 'degrees'}{scale.get(sign[-1], '')}"


def _sign(match: Match[str]) -> str:
    return f"{match[1]} {SIGNS[match[2]]} "


_RULES: tuple[tuple[str, Callable[[Match[str]], str | None]], ...] = (
    (r"(?<![\w-])(\d{4})-(\d\d)-(\d\d)(?![\w-])", _date),
    (rf"([$€£¥])[ ]?{AMOUNT}{LARGE}(?!\d)", _money_before),
    (rf"(?<![\w.,]){AMOUNT}{LARGE}[ \u00a0]?([€£¥])", _money_behind),
    (r"(?<![\w+])\+\d[\d ()-]{6,}\d", _telephone),
    (r"(?<![\w-])(?:\(\d{3}\)[ ]?|\d{3}[ -])?\d{3}-\d{4}(?![\w-])", _telephone),
    (r"(?<![\w.,])\d{1,3}(?:[\u00a0\u202f]\d{3})+(?!\d)", lambda m: re.sub(r"\D", "", m[0])),
    (r"(?<![\w.,])\d{1,3}(?:[ ]\d{3})*[ ]000(?!\d)", lambda m: m[0].replace(" ", "")),
    (r"(?<!\w)(\d\d)(\d)0s\b", _decade),
    (r"(?<!\w)['’]?()([2-9])0s\b", _decade),
    (r"(?<![\w/.])(\d+[ ])?(\d)/(\d{1,2})(?![\w/])", _fraction),
    (r"(\d+(?:\.\d+)?)[ \u00a0]?(°[CF]\b|℃|℉|°)", _degrees),
    (r"(?<=\d)[ ]?−[ ]?(?=\d)|(?<=\d)[ ]-[ ](?=\d)", lambda m: " minus "),
    (r"(?<=\d)-(?=\d+(?:\.\d+)?[ ]?=)", lambda m: " minus "),
    (r"(?<![\w)\]−-])[-−](?=\d)|−", lambda m: "minus "),
    (r"(?<=\d)–(?=\d)", lambda m: " to "),
    (r"(?<=\d)[ ][xX][ ](?=\d)|(?<=\d)[xX](?=\d)", lambda m: " times "),
    (r"(?<=\d)[ ]/[ ](?=\d)", lambda m: " divided by "),
    (r"([\w)%])[ ]?([×÷+=≈≠≤≥<>±^])[ ]?(?=[\w($-])", _sign),
    (r"(?<!\w)#(?=\d)", lambda m: "number "),
)
RULES = tuple((re.compile(pattern), said) for pattern, said in _RULES)


def said_in_english(text: str) -> Iterator[tuple[int, int, str]]:
    """What is said otherwise than it stands: start and end in `text`, and the words; in order."""
    found: list[tuple[int, int, str]] = []
    for pattern, said in RULES:
        for match in pattern.finditer(text):
            start, end = match.span()
            if any(start < other_end and other_start < end for other_start, other_end, _ in found):
                continue
            words = said(match)
            if words is not None:
                found.append((start, end, words))
    yield from sorted(found)
