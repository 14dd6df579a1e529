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
        ("-5 °C, 3 + 4 = 7, $3.50, 20 %", "-5 °C, 3 + 4 = 7, $3.50, 20 %"),
        ("café e\u0301t\u00e9", "café e\u0301t\u00e9"),
        ("a | b", "a  b"),
        ("bell\x07", "bell "),
        ("2 - 1", "2 - 1"),
    ],
)
def test_what_is_said(written: str, said: str) -> None:
    assert spoken_form(written).text == said


def test_the_way_back_to_what_was_written() -> None:
    written = "The **capital** is [Paris](http://x.y)!"
    form = spoken_form(written)
    assert form.text == "The capital is Paris!"
    assert written[form.written(form.text.index("capital"))] == "c"
    assert written[form.written(form.text.index("Paris")) :].startswith("Paris](")
    assert form.written(form.text.index("!")) == len(written) - 1
    assert form.written(len(form.text)) == len(written)


@given(st.text(st.sampled_from("aB1 .,*_#`>|[]()-\n😀\u200d\ufe0f~/:htps\x00"), max_size=80))
def test_origins_rise_and_nothing_is_unspeakable(written: str) -> None:
    form = spoken_form(written)
    assert len(form.origins) == len(form.text)
    assert all(a <= b for a, b in itertools.pairwise(form.origins))
    assert all(0 <= origin < len(written) for origin in form.origins)
    assert not set(form.text) & set("*`~|\n\x00😀")
