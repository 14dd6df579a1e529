"""What was heard of a reply, by reports and by the clock, in samples and in characters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.contracts import SpokenChunk
from textpro_stream.pipeline.playback import GRACE_S, Playback
from textpro_stream.speech.playout import to_word


def playing() -> Playback:
    """2 s at 1000 Hz: 10 characters in the first, 20 in all, begun at 5.0."""
    playback = Playback()
    second = np.zeros(1000, np.float32)
    playback.add(SpokenChunk(second, 1000, 0, 10), 5.0)
    playback.add(SpokenChunk(second, 1000, 1000, 20), 5.1)
    return playback


def test_without_reports_the_clock_tells() -> None:
    playback = playing()
    assert [playback.heard_samples(t) for t in (4.0, 5.0, 5.5, 9.0)] == [0, 0, 500, 2000]
    assert [playback.heard_characters(t) for t in (5.5, 6.0, 6.25, 9.0)] == [5, 10, 12, 20]
    assert not playback.is_over(6.9)
    assert playback.is_over(7.0)


def test_a_player_knows_better() -> None:
    playback = playing()
    playback.report(250)
    playback.report(100)  # an old report that came late
    assert playback.heard_samples(9.0) == 250
    assert not playback.is_over(7.0)
    assert playback.is_over(7.0 + GRACE_S)  # but it is not waited for without end
    playback.report(2000)
    assert playback.is_over(5.2)


def test_a_reply_without_audio_is_over_at_once() -> None:
    playback = Playback()
    assert playback.is_over(0.0)
    assert playback.heard_characters(1.0) == playback.heard_samples(1.0) == 0


@given(moments=st.lists(st.floats(5.0, 8.0), min_size=2, max_size=8))
def test_hearing_never_goes_back(moments: list[float]) -> None:
    playback = playing()
    heard = [playback.heard_characters(moment) for moment in sorted(moments)]
    assert heard == sorted(heard)


@pytest.mark.parametrize(
    ("n", "kept"),
    [(0, ""), (3, ""), (5, "Hello"), (6, "Hello"), (8, "Hello"), (11, "Hello there"), (99, "…")],
)
def test_a_cut_falls_between_words(n: int, kept: str) -> None:
    text = "Hello there, you"
    assert to_word(text, n).rstrip(" ,") == (text if kept == "…" else kept)
