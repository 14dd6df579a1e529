"""The end-of-turn head: surer with a finished sentence, with silence, and with a larger budget."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.config import TurnOptions
from textpro_stream.contracts import Ending, OpenTurn, TokenSpan, samples_of_ms
from textpro_stream.errors import WeightsError
from textpro_stream.turn.features import NAMES, features
from textpro_stream.turn.head import Head, HeadWeights

STATES = np.zeros((0, 4), np.float32)
FINISHED = Ending(-2.0, -0.3, -5.0, -4.0, -6.0, -0.1, STATES)
OPEN = Ending(-6.0, -4.0, -1.5, -7.0, -8.0, -3.0, STATES)


def turn(text: str, ending: Ending | None = FINISHED) -> OpenTurn:
    return OpenTurn(1, (TokenSpan((), text, 0, 1, -0.1, None),), over=True, ending=ending)


@pytest.fixture(scope="module")
def head() -> Head:
    return Head.load()


AT_ONCE, LATER = samples_of_ms(200), samples_of_ms(900)


def test_a_finished_question_is_likelier_an_end_than_an_open_phrase(head: Head) -> None:
    finished = head.p_end(turn("What time is it?"), AT_ONCE)
    hanging = head.p_end(turn("I would like a", OPEN), AT_ONCE)
    assert finished > 0.5 > hanging


@given(
    log=st.lists(st.floats(-12, -0.01), min_size=6, max_size=6),
    text=st.sampled_from(["What time is it?", "I want", "five five five", "um", "K A T", ""]),
    budget=st.floats(0.01, 0.9),
)
def test_silence_makes_it_surer_and_a_larger_budget_asks_for_less(
    log: list[float], text: str, budget: float
) -> None:
    judge, said = Head.load(), turn(text, Ending(*log, STATES))
    grown = [judge.p_end(said, samples_of_ms(ms)) for ms in range(200, 3000, 100)]
    assert all(0.0 <= a <= b <= 1.0 for a, b in pairwise(grown))
    strict, lax = TurnOptions(false_cutoffs=budget / 2 + 0.005), TurnOptions(false_cutoffs=budget)
    if budget > 0.02:
        assert judge.p_required(AT_ONCE, strict) >= judge.p_required(AT_ONCE, lax)


def test_a_recogniser_that_tells_no_ending_is_judged_by_its_words(head: Head) -> None:
    def p_end(text: str) -> float:
        return head.p_end(turn(text, None), AT_ONCE)

    assert p_end("That is all.") > p_end("I want") > p_end("I want and")
    assert head.p_end(turn("I want and", None), LATER) > p_end("I want and")


def test_numbers_stand_where_their_names_say() -> None:
    def numbers(text: str, ending: Ending = FINISHED) -> dict[str, float]:
        found = features(turn(text, ending))
        assert found is not None
        return dict(zip(NAMES, found, strict=True))

    plain = numbers("What time is it?")
    assert (plain["full_stop"], plain["closed"], plain["question_written"]) == (-0.3, -0.1, 1.0)
    assert plain["word"] == pytest.approx(np.log(1 - sum(np.exp([-2.0, -0.3, -5.0, -4.0, -6.0]))))
    for text, name in (
        ("My number is five five five", "number_open"),
        ("My number is 555 019", "number_open"),
        ("My number is 555 0192", "number_whole"),
        ("My name is Katz, K. A.", "spelling_open"),
        ("My name is Katz, K-A-T-Z.", "spelling_whole"),
        ("I would like, um,", "hesitates"),
        ("I need eggs, milk", "list_open"),
        ("I need eggs, milk, and bread", "list_whole"),
        ("It is late. Can you please", "only_opened"),
        ("Turn off the lights. No.", "takes_back"),
    ):
        told = numbers(text)
        assert told[name] == 1.0, text
        others = [n for n in NAMES[-8:] if n != name]
        assert (
            name == "hesitates"
            or name.startswith("spelling")
            or not any(told[other] for other in others)
        )
    assert not any(numbers("So do I, and nobody else in the whole house")[n] for n in NAMES[-8:])
    assert numbers("nothing of that")["no_mark"] == 1.0
    assert numbers("No.")["takes_back"] == 0.0  # an answer
    assert numbers("Is it late? No, it is about half past ten.")["takes_back"] == 0.0


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="end_of_turn=words"):
        Head.load(tmp_path / "none.safetensors")
    good = HeadWeights(np.zeros(len(NAMES)), np.zeros(1), np.ones(2), np.ones(1), np.ones(1))
    good.save(tmp_path / "good.safetensors")
    assert Head.load(tmp_path / "good.safetensors").p_end(turn("Yes."), AT_ONCE) > 0.0
    replace(good, weights=np.zeros(3)).save(tmp_path / "old.safetensors")
    with pytest.raises(WeightsError, match=r"for 3 features.*textpro train end-of-turn"):
        Head.load(tmp_path / "old.safetensors")
