"""Words said again, and words that are only written again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_whisper import tokenizer

from textpro_stream.whisper.draft import Drafted, Why
from textpro_stream.whisper.guards import Guards, Watch
from textpro_stream.whisper.tokens import Tokens

Said = Sequence[tuple[str, int]]  # a piece and the position that it attends to
SPOKEN = 12  # positions of one word in quick speech: 0.24 s


@pytest.fixture(scope="module")
def tokens(random_folder: Path) -> Tokens:
    return Tokens(random_folder, tokenizer().get_vocab_size())


def drafted(said: Said) -> list[Drafted]:
    ids = {piece: tokenizer().token_to_id(piece) for piece, _ in said}
    return [Drafted(ids[piece], position, -0.1, torch.zeros(1)) for piece, position in said]


def walk(tokens: Tokens, said: Said, before: Said = ()) -> tuple[Why | None, list[str]]:
    """Why a walk along these ends early, and what it keeps."""
    watch = Watch(Guards(), tokens, drafted(before), n_heard=1000, final=True)
    words = drafted(said)
    for i, word in enumerate(words):
        if why := watch.stops(words[:i], word, back=False):
            return why, [piece for piece, _ in said[: watch.cut]]
    return None, [piece for piece, _ in said]


def again(phrase: Sequence[str], times: int, at: int, moves: int) -> list[tuple[str, int]]:
    """A phrase several times, each so many positions behind the one before."""
    return [(piece, at + i * moves) for i in range(times) for piece in phrase]


PHRASES = st.sampled_from([["Ġno"], ["Ġno", ","], ["Ġthe", "Ġnot", ","], ["Ġwas", "ing", "Ġbut"]])


@given(phrase=PHRASES, times=st.integers(2, 12))
def test_what_is_said_again_and_again_stays(tokens: Tokens, phrase: list[str], times: int) -> None:
    said = again(phrase, times, 10, SPOKEN * len(phrase))
    assert walk(tokens, said) == (None, [piece for piece, _ in said])


@given(phrase=PHRASES, times=st.integers(1, 5))
def test_of_a_loop_the_words_that_were_said_stay(
    tokens: Tokens, phrase: list[str], times: int
) -> None:
    said = again(phrase, times, 10, SPOKEN * len(phrase))
    circling = again(phrase, 6, said[-1][1] + 20, 0)
    why, kept = walk(tokens, [*said, *circling])
    assert why in ("loop", "stuck")
    assert kept[: len(said)] == [piece for piece, _ in said]
    assert len(kept) <= len(said) + 1  # of a circle nothing, or a first word


def test_where_it_begins_to_circle_something_else_may_have_been_said(tokens: Tokens) -> None:
    said = [("Ġthe", 10), ("Ġhis", 20), *again(["Ġno", ","], 5, 40, 1)]
    assert walk(tokens, said) == ("loop", ["Ġthe", "Ġhis"])


def test_a_loop_is_cut_off_between_words(tokens: Tokens) -> None:
    said = [("Ġthe", 10), ("Ġwas", 20), *again(["ing"], 5, 40, 0)]
    assert walk(tokens, said) == ("loop", ["Ġthe"])


def test_of_nothing_but_a_loop_the_first_time_stays(tokens: Tokens) -> None:
    said = again(["Ġno", ","], 5, 40, 0)
    assert walk(tokens, said) == ("loop", ["Ġno", ","])
    assert walk(tokens, said, before=[("Ġthe", 10)]) == ("loop", [])


def test_a_loop_that_began_in_committed_words_adds_none(tokens: Tokens) -> None:
    said = again(["Ġno", ","], 6, 40, 0)
    assert walk(tokens, said[4:], before=said[:4]) == ("loop", [])
