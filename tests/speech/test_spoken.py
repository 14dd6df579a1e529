# ruff: noqa: RUF001, signs of many kinds are meant
from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.speech.spoken import spoken_form


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("The capital is Paris.", "The capital is Paris."),
        ("The **capital** is *Paris*.", "The capital is Paris."),
        ("__Yes__ and _no_, `code` too", "Yes and no, code too"),
        ("a snake_case name", "a snake case name"),
        ("# Title", "Title"),
        ("- one", "one"),
        ("* one", "one"),
        ("1. one", "1. one"),
        ("> said", "said"),
        ("---", ""),
        ("one\ntwo", "one, two"),
        ("one.\ntwo", "one. two"),
        ("see [the map](https://a.org/map?x=1).", "see the map."),
        ("see https://www.a.org/map?x=1.", "see a.org."),
        ("see https://a.org, please", "see a.org, please"),
        ("```python\nprint\n```", " print, "),
        ("Yes! 😀👍🏽 Fine 👩\u200d🚀.", "Yes!  Fine ."),
        ("1\ufe0f\u20e3 is one", "1 is one"),
        (
            "-5 °C, 3 + 4 = 7, $3.50, 20 %",
            "minus 5 degrees Celsius, 3 plus 4 equals 7, 3 dollars and 50 cents, 20 %",
        ),
        ("café e\u0301t\u00e9", "café e\u0301t\u00e9"),
        ("a | b", "a  b"),
        ("bell\x07", "bell "),
        ("2 - 1", "2 minus 1"),
        ("2*3 = 6", "2 times 3 equals 6"),
        ("5 * 3 = 15", "5 times 3 equals 15"),
        ("**2*3** is *six*", "2 times 3 is six"),
        ("2*3*4", "2 times 3 times 4"),
        ("x*y and 2*x", "x times y and 2 times x"),
        ("2**3 = 2^3", "2 to the power of 3 equals 2 to the power of 3"),
        ("un*believ*able", "unbelievable"),
        ("7-3 = 4", "7 minus 3 equals 4"),
        ("3 × 4, 12 ÷ 4, 3 x 4", "3 times 4, 12 divided by 4, 3 times 4"),
        ("It is −3.", "It is minus 3."),
        ("a 3-day trip, well-known", "a 3-day trip, well-known"),
        ("$1, $1,000.00, $0.99", "1 dollar, 1000 dollars, 99 cents"),
        ("$2.5 million, 20 €, £3.01", "2.5 million dollars, 20 euros, 3 pounds and 1 penny"),
        ("on 2026-11-28.", "on November 28, 2026."),
        ("item 2026-13-45", "item 2026-13-45"),
        ("Call 555-123-4567.", "Call 5 5 5, 1 2 3, 4 5 6 7."),
        ("Call +44 20 7946 0958", "Call plus 4 4, 2 0, 7 9 4 6, 0 9 5 8"),
        ("(555) 123-4567 or 555-1234", "5 5 5, 1 2 3, 4 5 6 7 or 5 5 5, 1 2 3 4"),
        ("1/2 cup, 3/4, 1 1/2", "one half cup, three quarters, 1 and a half"),
        ("and/or, 24/7, 11/28/2026", "and/or, 24/7, 11/28/2026"),
        ("10 000 people, 12\u202f500", "10000 people, 12500"),
        ("the 1990s, the '80s, 1900s", "the 19 nineties, the eighties, 19 hundreds"),
        ("21 ℃, 1 °F, 90°", "21 degrees Celsius, 1 degree Fahrenheit, 90 degrees"),
        ("pages 5–10, #3", "pages 5 to 10, number 3"),
    ],
)
def test_what_is_said(written: str, said: str) -> None:
    assert spoken_form(written).text == said


def test_another_language_reads_its_numbers_itself() -> None:
    assert spoken_form("-5 °C, 2*3 = 6, $3.50", english=False).text == "-5 °C, 2×3 = 6, $3.50"


def test_the_way_back_from_words_to_digits() -> None:
    written = "It costs $3.50 today."
    form = spoken_form(written)
    assert form.written(form.text.index("dollars")) in range(9, 14)
    assert form.written(form.text.index("today")) == written.index("today")


def test_the_way_back_to_what_was_written() -> None:
    written = "The **capital** is [Paris](http://x.y)!"
    form = spoken_form(written)
    assert form.text == "The capital is Paris!"
    assert written[form.written(form.text.index("capital"))] == "c"
    assert written[form.written(form.text.index("Paris")) :].startswith("Paris](")
    assert form.written(form.text.index("!")) == len(written) - 1
    assert form.written(len(form.text)) == len(written)


@given(st.text(st.sampled_from("aB1 .,*_#`>|[]()-+=/$^°\n😀\u200d\ufe0f~/:htps\x00"), max_size=80))
def test_origins_rise_and_nothing_is_unspeakable(written: str) -> None:
    form = spoken_form(written)
    assert len(form.origins) == len(form.text)
    assert all(a <= b for a, b in itertools.pairwise(form.origins))
    assert all(0 <= origin < len(written) for origin in form.origins)
    assert not set(form.text) & set("*`~|\n\x00😀")
