"""Completeness of words: which promise more, which do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.turn import p_end_of_turn


@pytest.mark.parametrize(
    "text", ["What time is it?", " Turn it off.", 'He said "no."', "What is it for?", "It's mine!"]
)
def test_finished(text: str) -> None:
    assert p_end_of_turn(text) >= 0.5


@pytest.mark.parametrize(
    "text",
    [
        "I would like a",
        "and then the.",
        "Well, um",
        "so it\N{RIGHT SINGLE QUOTATION MARK}s the",
        "a mocha with",
        "I want...",
        "first,",
        "",
        " ",
        "?",
    ],
)
def test_unfinished(text: str) -> None:
    assert p_end_of_turn(text) < 0.5


@given(st.text())
def test_any_text_has_a_probability(text: str) -> None:
    assert 0.0 <= p_end_of_turn(text) <= 1.0


def test_the_marks_are_ordered() -> None:
    marks = ["Make me a latte.", "Make me a latte", "Make me a latte,", "Make me a"]
    promises = [p_end_of_turn(text) for text in marks]
    assert promises == sorted(promises, reverse=True)
    assert len(set(promises)) == len(promises)
