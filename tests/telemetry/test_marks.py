"""The marks, the derived figures, and that the parts add up to the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.telemetry.marks import Arrivals, TurnMarks
from textpro_stream.telemetry.waterfall import discrepancy, parts, stages


def test_the_earliest_arrival_is_believed() -> None:
    arrivals = Arrivals()
    arrivals.stamp(320, 10.07)  # 50 ms late
    arrivals.stamp(640, 10.04)
    assert arrivals.moment(16_000) == pytest.approx(11.0)


def test_a_paused_source_starts_the_fit_anew() -> None:
    arrivals = Arrivals()
    arrivals.stamp(16_000, 1.0)
    arrivals.stamp(16_320, 60.0)
    assert arrivals.moment(16_320) == pytest.approx(60.0)


def test_the_fit_forgets_so_a_drifting_card_does_no_harm() -> None:
    arrivals = Arrivals()
    for second in range(100):
        arrivals.stamp(second * 16_000, second * 1.001)
    assert arrivals.moment(99 * 16_000) == pytest.approx(99.0 + 0.069, abs=1e-3)


def turn(first_token: float = 9.9, first_audio: float | None = 10.01) -> dict[str, float]:
    """A turn decided at 10.0 whose speech ended at 9.4 (audio clock = monotonic clock)."""
    arrivals = Arrivals()
    arrivals.stamp(160_000, 10.0)
    marks = TurnMarks()
    marks.note("last_commit", 9.7)
    marks.note("first_token", first_token)
    marks.note("first_token", 99.0)  # the first stands
    marks.decide(10.0, 160_000, 150_400, arrivals)
    marks.note("asr_final", 10.001)
    if first_audio is not None:
        marks.note("first_clause", max(first_token, 9.95))
        marks.note("tts_first", max(first_token, 9.95) + 0.04)
        marks.note("first_audio", first_audio)
    return marks.report()


def test_figures_follow_their_definitions() -> None:
    marks = turn()
    assert marks["endpoint_wait"] == pytest.approx(0.6)
    assert marks["speech_end"] == pytest.approx(-0.6)
    assert marks["ttft_ready"] == pytest.approx(-0.1)
    assert marks["ttft_commit"] == pytest.approx(0.2)
    assert marks["asr_lag"] == pytest.approx(0.3)
    assert marks["tts_ttfb"] == pytest.approx(0.04)
    assert marks["server_perceived"] == pytest.approx(0.61)


def test_marks_that_did_not_happen_are_absent() -> None:
    marks = turn(first_audio=None)
    assert "server_perceived" not in marks
    assert "first_audio" not in marks
    assert discrepancy(marks) == 0.0


def test_what_was_undone_is_forgotten() -> None:
    marks = TurnMarks()
    marks.note("first_token", 1.0)
    marks.forget("first_token", "tts_first")
    marks.note("first_token", 2.0)
    arrivals = Arrivals()
    arrivals.stamp(0, 0.0)
    marks.decide(3.0, 0, 0, arrivals)
    assert marks.report()["first_token"] == -1.0


@given(first_token=st.floats(9.5, 11.0), late=st.floats(0.05, 2.0))
def test_the_parts_add_up_to_the_whole(first_token: float, late: float) -> None:
    ready = max(10.0, first_token + 0.05, 9.99)
    marks = turn(first_token, ready + late)
    assert abs(discrepancy(marks)) < 0.010
    assert all(end >= start for _, start, end in parts(marks))


def test_clocks_that_disagree_are_found_out() -> None:
    marks = turn()
    marks["server_perceived"] += 0.5
    assert abs(discrepancy(marks)) > 0.010


def test_stages_lie_where_they_happened() -> None:
    drawn = {name: (start, end) for name, start, end in stages(turn())}
    assert drawn["endpoint"] == pytest.approx((-0.6, 0.0))
    assert drawn["first token"] == pytest.approx((-0.3, -0.1))  # under the endpoint's bar: free
    assert "words" not in drawn  # this turn has no vad_stop
