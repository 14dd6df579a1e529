from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_whisper import tokenizer

from textpro_stream.whisper.draft import Drafted
from textpro_stream.whisper.guards import Guards, Watch
from textpro_stream.whisper.tokens import Tokens

RULES = Guards()


@pytest.fixture(scope="module")
def tokens(random_folder: Path) -> Tokens:
    return Tokens(random_folder, tokenizer().get_vocab_size())


def said(ids: str, step: int, first: int = 10) -> list[Drafted]:
    """A token a letter, each so many positions behind the one before."""
    return [
        Drafted(300 + ord(letter), first + step * i, -0.1, torch.zeros(1))
        for i, letter in enumerate(ids)
    ]


@pytest.mark.parametrize(
    ("ids", "again"),
    [("a", 0), ("aaa", 0), ("aaaa", 3), ("xabab", 0), ("xababab", 4), ("abcdabcdabcd", 8)],
)
def test_what_a_loop_says_again(ids: str, again: int) -> None:
    assert RULES.repeated(said(ids, step=1)) == again


def test_people_do_say_the_same_word_again_and_again() -> None:
    assert RULES.repeated(said("aaaa", step=20)) == 0


@pytest.mark.parametrize("final", [False, True])
def test_of_a_loop_what_it_says_first_is_kept(tokens: Tokens, final: bool) -> None:
    looping = said("xyababab", step=2)
    watch = Watch(RULES, tokens, [], n_heard=400, final=final)
    *walked, last = looping
    assert watch.stops(walked, last, back=False) == "loop"
    assert walked[: watch.cut] == looping[:4]


def test_a_loop_that_began_in_committed_words_keeps_none_of_its_own(tokens: Tokens) -> None:
    looping = said("ababab", step=1)
    watch = Watch(RULES, tokens, looping[:4], n_heard=400, final=True)
    assert watch.stops(looping[4:5], looping[5], back=False) == "loop"
    assert watch.cut == 0
