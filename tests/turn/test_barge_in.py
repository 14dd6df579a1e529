"""Barge-in: a cough costs a dip in volume, a sentence the reply."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textpro_stream.config import TurnOptions
from textpro_stream.turn import BargeIn, echoes, is_backchannel

OPTIONS = TurnOptions(threshold=0.5, barge_in_ms=300)


def run(machine: BargeIn, voice_ms: list[tuple[float, int]]) -> list[tuple[str, int]]:
    """(signal, ms after the start) over (probability, ms) pairs, while a reply plays."""
    said: list[tuple[str, int]] = []
    at = 0
    for voice, length_ms in voice_ms:
        for _ in range(length_ms // 20):
            at += 20
            if signal := machine.push(voice, interruptible=True):
                said.append((signal, at))
    return said


def test_a_cough_only_ducks() -> None:
    assert run(BargeIn(OPTIONS), [(0, 100), (0.9, 200), (0, 1000)]) == [
        ("duck", 160),
        ("unduck", 700),
    ]


def test_a_click_does_nothing() -> None:
    assert run(BargeIn(OPTIONS), [(0.9, 40), (0, 40)] * 20) == []


def test_a_lasting_voice_stops_once() -> None:
    assert run(BargeIn(OPTIONS), [(0.9, 2000)]) == [("duck", 60), ("stop", 300)]


def test_gaps_between_words_do_not_start_over() -> None:
    assert run(BargeIn(OPTIONS), [(0.9, 160), (0, 100), (0.9, 400)])[-1] == ("stop", 400)


def test_a_word_stops_at_once_and_a_backchannel_does_not() -> None:
    machine = BargeIn(OPTIONS)
    assert machine.push(0.0, interruptible=True, words=" Mm-hmm.") is None
    assert machine.push(0.0, interruptible=True, words=" ") is None
    assert machine.push(0.0, interruptible=True, words=" Stop.") == "stop"


def test_where_nothing_may_be_stopped_nothing_happens() -> None:
    machine = BargeIn(OPTIONS)
    assert all(machine.push(1.0, interruptible=False) is None for _ in range(100))
    assert machine.push(1.0, interruptible=False, words=" Stop.") is None


def test_a_reply_that_ends_while_quiet_gives_the_volume_back() -> None:
    machine = BargeIn(OPTIONS)
    run(machine, [(0.9, 100)])
    assert machine.ducked
    assert machine.push(0.9, interruptible=False) == "unduck"
    assert run(machine, [(0.9, 400)]) == [("duck", 60), ("stop", 300)]  # the next reply is new


@given(
    frames=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.2, 0.6, 1.0]),
            st.sampled_from([True, True, True, False]),
            st.sampled_from(["", "", "", " yeah", " wait"]),
        ),
        max_size=300,
    )
)
@settings(max_examples=150, deadline=None)
def test_laws(frames: list[tuple[float, bool, str]]) -> None:
    machine = BargeIn(OPTIONS)
    ducked = stopped = False
    for voice, interruptible, words in frames:
        signal = machine.push(voice, interruptible, words)
        stopped = stopped and interruptible
        if signal == "duck":
            assert interruptible
            assert not ducked
            assert not stopped
        elif signal == "unduck":
            assert ducked
        elif signal == "stop":
            assert interruptible
            assert not stopped
            stopped = True
        ducked = signal == "duck" or (ducked and signal is None)
        assert machine.ducked == ducked


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Mm-hmm.", True), ("yeah, okay", True), ("Uh-huh", True), ("", False), ("yeah but", False)],
)
def test_backchannels(text: str, expected: bool) -> None:
    assert is_backchannel(text) is expected


REPLY = (
    "The capital of France is Paris. It lies on the Seine, and about two million people live there."
)


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ("capital of France is Paris.", True),
        ("it lies on the same and about two million people", True),  # with a misheard word
        (REPLY, True),
        ("Paris", False),  # too short to tell
        ("What about the capital of Italy?", False),
        ("is it the city where about half of the people live", False),  # same words, far apart
        ("", False),
    ],
)
def test_a_turn_that_repeats_the_reply_is_an_echo(heard: str, expected: bool) -> None:
    assert echoes(heard, REPLY) is expected


def overhearing(machine: BargeIn, words: dict[int, str], length_ms: int) -> list[tuple[str, int]]:
    """Signals over a steady voice whose words so far are known from a millisecond on."""
    said: list[tuple[str, int]] = []
    for at in range(20, length_ms + 20, 20):
        known = [text for since, text in words.items() if since <= at]
        signal = machine.push(0.9, True, "", lambda known=known: known[-1] if known else "")
        if signal:
            said.append((signal, at))
    return said


@pytest.mark.parametrize("said", ["", " Mm-hmm.", " Yeah, okay.", " Ha ha ha!", " ..."])
def test_a_lasting_sound_that_takes_no_turn_only_ducks(said: str) -> None:
    assert overhearing(BargeIn(OPTIONS), {0: said}, 800) == [("duck", 60)]


def test_words_stop_the_reply_as_soon_as_the_voice_lasts() -> None:
    assert overhearing(BargeIn(OPTIONS), {0: " No, wait"}, 800)[-1] == ("stop", 300)


def test_more_than_yes_stops_when_it_is_asked_about_again() -> None:
    signals = overhearing(BargeIn(OPTIONS), {0: " Yes", 420: " Yes, but"}, 800)
    assert signals == [("duck", 60), ("stop", 460)]


def test_no_sound_goes_on_for_ever() -> None:
    assert overhearing(BargeIn(OPTIONS), {0: " Mm"}, 3000)[-1] == ("stop", 1900)
