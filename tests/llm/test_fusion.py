from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llm import spoken

from textpro_stream.contracts import TokenSpan
from textpro_stream.llm.fusion import FusionSpec, Row, Said, Tone, groups_of, rows_of

INTERLEAVE, GLOBAL, TEXT = FusionSpec("interleave"), FusionSpec("global"), FusionSpec("text")


def by_letters(text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """A tokenizer of one id a character: groups are five characters."""
    return [ord(c) for c in text], [(i, i + 1) for i in range(len(text))]


def said(*spans: TokenSpan) -> Said:
    return Said.of(spans, by_letters)


def shape(rows: list[Row]) -> str:
    return "".join("*" if isinstance(row, Tone) else chr(row) for row in rows)


def typed(text: str) -> TokenSpan:
    return TokenSpan((), text, 0, 0, 0.0, torch.empty(0, 0))


def test_the_first_words_leading_space_is_not_the_users() -> None:
    turn = said(*spoken("how long"))
    assert turn.text == "how long"
    assert turn.span_starts == (0, 4)


def test_text_rows_are_the_ids() -> None:
    assert shape(rows_of(said(*spoken("how long")), TEXT, whole=False)) == "how long"


def test_a_tone_stands_before_each_group_of_five() -> None:
    turn = said(*spoken("how long is it"))
    assert shape(rows_of(turn, INTERLEAVE, whole=True)) == "*how l*ong i*s it"


def test_a_group_waits_for_its_five_tokens_or_the_end() -> None:
    turn = said(*spoken("how long is it"))
    assert shape(rows_of(turn, INTERLEAVE, whole=False)) == "*how l*ong i"
    assert rows_of(said(*spoken("how")), INTERLEAVE, whole=False) == []


def test_a_group_pools_the_words_that_begin_in_it_and_those_of_the_group_before() -> None:
    how, long, is_, it = spoken("how long is it")
    rows = rows_of(said(how, long, is_, it), INTERLEAVE, whole=True)
    tones = [row.spans for row in rows if isinstance(row, Tone)]
    assert tones == [(how, long), (how, long, is_), (is_, it)]
    alone = FusionSpec("interleave", groups_before=0)
    tones = [row.spans for row in rows_of(said(how, long, is_, it), alone, whole=True)
             if isinstance(row, Tone)]  # fmt: skip
    assert tones == [(how, long), (is_,), (it,)]


def test_a_long_word_keeps_its_tone_in_every_group() -> None:
    (word,) = spoken("internationally")
    rows = rows_of(said(word), INTERLEAVE, whole=True)
    assert shape(rows) == "*inter*natio*nally"
    assert all(row.spans == (word,) for row in rows if isinstance(row, Tone))


def test_pooling_is_the_mean_over_states() -> None:
    one = TokenSpan((1, 2), " é", 0, 1, 0.0, torch.tensor([[1.0, 3.0], [3.0, 5.0]]))
    two = TokenSpan((3,), " a", 1, 2, 0.0, torch.tensor([[5.0, 1.0]]))
    assert Tone((one, two)).pooled().tolist() == [3.0, 3.0]


def test_typed_words_have_no_tone() -> None:
    (word,) = spoken("hello")
    assert shape(rows_of(said(typed("abcdefg")), INTERLEAVE, whole=True)) == "abcdefg"
    assert shape(rows_of(said(typed("ab")), GLOBAL, whole=True)) == "ab"
    assert shape(rows_of(said(word, typed(" abcdef")), INTERLEAVE, whole=True)) == "*hello* abcdef"


def test_global_waits_for_the_end_and_pools_everything() -> None:
    spans = spoken("how long is it")
    assert rows_of(said(*spans), GLOBAL, whole=False) == []
    rows = rows_of(said(*spans), GLOBAL, whole=True)
    assert shape(rows) == "*how long is it"
    assert rows[0] == Tone(tuple(spans))


def test_the_marker_may_stand_before_its_vector() -> None:
    marked = FusionSpec("interleave", marker=ord("#"), marker_mode="marker_then_vector")
    assert shape(rows_of(said(*spoken("how long")), marked, whole=True)) == "#*how l#*ong"
    replaced = FusionSpec("interleave", marker=ord("#"))
    assert shape(rows_of(said(*spoken("how long")), replaced, whole=True)) == "*how l*ong"


@pytest.mark.parametrize("spec", [TEXT, INTERLEAVE], ids=["text", "interleave"])
@given(
    words=st.lists(st.text("abcé", min_size=1, max_size=9), min_size=1, max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_more_words_only_append_rows(words: list[str], spec: FusionSpec) -> None:
    spans = spoken(" ".join(words))
    grown = [rows_of(said(*spans[:n]), spec, whole=False) for n in range(len(spans) + 1)]
    for before, after in pairwise([*grown, rows_of(said(*spans), spec, whole=True)]):
        assert after[: len(before)] == before


@given(words=st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_each_word_belongs_to_one_group(words: list[str]) -> None:
    turn = said(*spoken(" ".join(words)))
    assert [span for group in groups_of(turn, 5) for span in group] == list(turn.spans)
