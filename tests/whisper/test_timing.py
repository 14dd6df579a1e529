from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_whisper import tokenizer

from textpro_stream.whisper.draft import Drafted
from textpro_stream.whisper.timing import Timing, time_spans
from textpro_stream.whisper.tokens import Tokens

THE, ING = (tokenizer().token_to_id(piece) for piece in ("Ġthe", "ing"))


@pytest.fixture(scope="module")
def tokens(random_folder: Path) -> Tokens:
    return Tokens(random_folder, tokenizer().get_vocab_size())


def drafted(*positions: int) -> list[Drafted]:
    return [Drafted(THE, position, -0.5, torch.ones(4)) for position in positions]


def test_a_word_sounds_around_the_position_it_attends_to(tokens: Tokens) -> None:
    spans = time_spans(drafted(20, 60), tokens, Timing(), origin=3200, after=0, end=10**6)
    assert [(span.start, span.end) for span in spans] == [
        (3200 + 12 * 320, 3200 + 26 * 320),
        (3200 + 52 * 320, 3200 + 66 * 320),
    ]
    assert [span.text for span in spans] == [" the", " the"]
    assert spans[0].states.shape == (1, 4)


def test_a_word_ends_where_the_next_is_said(tokens: Tokens) -> None:
    spans = time_spans(drafted(20, 22), tokens, Timing(), origin=0, after=0, end=10**6)
    assert spans[0].end == 22 * 320 == spans[1].start


@given(
    positions=st.lists(st.integers(0, 1499), max_size=20),
    after=st.integers(0, 100_000),
    more=st.integers(0, 100_000),
)
def test_times_never_go_back_nor_past_the_audio(
    tokens: Tokens, positions: list[int], after: int, more: int
) -> None:
    spans = time_spans(
        drafted(*positions), tokens, Timing(), origin=0, after=after, end=after + more
    )
    at = after
    for span in spans:
        assert at <= span.start <= span.end <= after + more
        at = span.end
