"""Completeness of words: which promise more, which do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.turn import p_end_of_turn


@pytest.mark.parametrize(
    "text", ["What time is it?", " Turn it off.", 'He said "no."', "What is it for?"]
)
def test_finished(text: str) -> None:
    assert p_end_of_turn(text) > 0.5


@pytest.mark.parametrize(
    "text",
    [
        "I would like a",
        "and then the.",
        "Well, um",
        "so it\N{RIGHT SINGLE QUOTATION MARK}s the",
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
