from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.bench import plots, results
from textpro_stream.bench.report import page
from textpro_stream.evaluate import svg

VOID = {"meta", "link", "br", "img", "wbr"}


class Balanced(HTMLParser):
    """Every element that opens also closes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_a_page_is_whole_and_needs_nothing_else(result) -> None:
    text = page(result)
    reader = Balanced()
    reader.feed(text)
    assert reader.open == []
    assert reader.seen.count("svg") == 6
    assert {"script", "link", "img"}.isdisjoint(reader.seen)
    assert not re.search(r"(?:src|href)=|url\(|@import|\son\w+=", text)
    assert "default-src 'none'" in text
    assert "nan" not in re.sub(r"<[^>]+>", " ", text).split()
    assert "prefers-color-scheme: dark" in text


def test_a_page_shows_each_system_and_length_with_its_ratio(result) -> None:
    text = page(result)
    for name in ("streaming", "record-then-run", "sentence-streaming", "2 s", "5 s"):
        assert name in text
    ratio = result["gains"]["2 s"]["record-then-run"]["value"]
    assert f"{ratio:.2f}" in text


def test_one_system_alone_makes_a_page_without_ratios(told, turns_of) -> None:
    text = page(results.summary(told, turns_of(), [], []))
    assert "Ratios" not in text
    assert "How many at once" not in text


def test_a_page_can_be_made_of_nothing_but_failures(told, turns_of) -> None:
    turns = turns_of(n=2)
    for turn in turns:
        turn.status, turn.client, turn.marks = "no reply", {}, {}
    reader = Balanced()
    reader.feed(page(results.summary(told, turns, [], [])))
    assert reader.open == []


def test_names_from_outside_are_escaped(result) -> None:
    result["environment"]["processor"] = "<script>alert(1)</script>"
    assert "<script>" not in page(result)


def test_the_median_turn_is_in_the_middle(turns_of) -> None:
    turns = turns_of(lengths=(2.0,), n=5)
    for turn, wait in zip(turns, (0.9, 0.1, 0.5, 0.3, 0.7), strict=True):
        turn.client["user_perceived"] = wait
    assert plots.median_turn(turns) is turns[2]
    assert plots.median_turn([]) is None


@given(
    low=st.floats(-100, 100),
    span=st.floats(1e-3, 1e4),
)
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    found = svg.ticks(low, low + span)
    assert len(found) <= 6
    assert found == sorted(found)
    assert all(low - 1e-6 <= tick <= low + span + 1e-6 for tick in found)


def test_a_scale_maps_its_ends() -> None:
    y = svg.Scale(0.0, 2.0, 100.0, 0.0)
    assert [y(0.0), y(1.0), y(2.0)] == [100.0, 50.0, 0.0]
    assert svg.Scale(1.0, 1.0, 5.0, 9.0)(1.0) == 5.0


@pytest.mark.parametrize("text", ["a<b", '"quoted"', "a&b"])
def test_text_in_drawings_is_escaped(text: str) -> None:
    drawn = svg.label(text, 1, 2) + svg.dot(1, 2, 3, "x", text)
    assert text not in drawn
