from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_whisper import tokenizer

from textpro_stream.whisper.draft import Drafted
from textpro_stream.whisper.roll import Roll, Rolling, Standing, roll
from textpro_stream.whisper.tokens import Tokens

RULES = Rolling()
THE, ING, STOP = (tokenizer().token_to_id(piece) for piece in ("Ġthe", "ing", "."))


@pytest.fixture(scope="module")
def tokens(random_folder: Path) -> Tokens:
    return Tokens(random_folder, tokenizer().get_vocab_size())


def words(*positions: int, token: int = THE) -> list[Drafted]:
    return [Drafted(token, position, -0.1, torch.zeros(1)) for position in positions]


def standing(
    said: Sequence[Drafted], available: int, draft: Sequence[Drafted] = (), **changes: int
) -> Standing:
    """In the middle of speech, unless changed."""
    last = max((d.position for d in said[-3:]), default=0)
    now = Standing(said, draft, available - 16, available, 16, last, idle=10, unheard=0)
    return replace(now, **changes)


def test_a_segment_goes_on_while_it_is_short_or_somebody_speaks(tokens: Tokens) -> None:
    assert roll(standing(words(400), 500), tokens, RULES) is None
    said, draft = words(600, 690), words(700)
    assert roll(standing(said, 716, draft), tokens, RULES) is None


def test_a_pause_ends_it_and_the_last_two_seconds_are_heard_again(tokens: Tokens) -> None:
    said = words(500, 560, 600, 640)
    found = roll(standing(said, 700), tokens, RULES)
    assert found is not None
    assert found.begin == 560 - RULES.before
    assert [d.position for d in found.carried] == [12, 52, 92]


def test_what_is_heard_again_begins_with_a_word(tokens: Tokens) -> None:
    said = [*words(540), *words(570, token=ING), *words(600, 640)]
    found = roll(standing(said, 700), tokens, RULES)
    assert found is not None
    assert found.carried[0].token == THE
    assert found.begin == 600 - RULES.before


def test_a_full_stop_needs_a_shorter_pause(tokens: Tokens) -> None:
    said, available = words(600, 680), 710
    assert roll(standing(said, available), tokens, RULES) is None
    closed = [*said, *words(680, token=STOP)]
    assert roll(standing(closed, available), tokens, RULES) is not None


def test_it_ends_at_a_word_when_it_is_long_and_inside_one_when_it_must(tokens: Tokens) -> None:
    said, inside = words(1100, 1150), words(1170, token=ING)
    assert roll(standing(said, 1180, words(1170)), tokens, RULES) is not None
    assert roll(standing(said, 1180, inside), tokens, RULES) is None
    assert roll(standing(words(1350), 1380, words(1370, token=ING)), tokens, RULES) is not None


def test_long_silence_carries_nothing(tokens: Tokens) -> None:
    assert roll(standing(words(400), 650), tokens, RULES) == Roll(650 - 16 - RULES.margin)
    assert roll(standing([], 1200, words(1190)), tokens, RULES) == Roll(1200 - 16 - RULES.margin)


def test_a_word_heard_in_the_look_ahead_does_not_move_the_origin_there(tokens: Tokens) -> None:
    found = roll(replace(standing(words(1114), 1117), last=1060), tokens, RULES)
    assert found is not None
    assert found.begin == 1101
    assert [d.position for d in found.carried] == [13]


def test_speech_without_words_gets_a_fresh_start_behind_the_last_one(tokens: Tokens) -> None:
    stalled = standing(words(100), 320, idle=210, unheard=150)
    assert roll(stalled, tokens, RULES) == Roll(106)
    assert roll(replace(stalled, unheard=50), tokens, RULES) is None


@given(
    said=st.lists(st.tuples(st.integers(0, 1400), st.sampled_from([THE, ING, STOP])), max_size=30),
    drafted=st.lists(st.sampled_from([THE, ING, STOP]), max_size=3),
    available=st.integers(0, 1480),
    idle=st.integers(0, 400),
    unheard=st.integers(0, 400),
)
def test_a_roll_stays_in_the_segment_and_its_words_in_the_next(
    tokens: Tokens,
    said: list[tuple[int, int]],
    drafted: list[int],
    available: int,
    idle: int,
    unheard: int,
) -> None:
    kept = sorted((min(position, available), token) for position, token in said)
    spoken = [Drafted(token, position, -0.1, torch.zeros(1)) for position, token in kept]
    draft = [Drafted(token, available, -0.1, torch.zeros(1)) for token in drafted]
    now = standing(spoken, available, draft, idle=idle, unheard=unheard)
    now = replace(now, length=max(0, now.length))
    found = roll(now, tokens, RULES)
    if found is None:
        return
    assert 0 <= found.begin <= now.length
    assert all(d.position >= 0 for d in found.carried)
    assert [d.token for d in found.carried] == [d.token for d in spoken][
        len(spoken) - len(found.carried) :
    ]
    if found.carried:
        assert tokens.starts_word(found.carried[0].token)
