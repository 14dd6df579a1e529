from __future__ import annotations

import json

import pytest

from textpro_stream.bench import results, table
from textpro_stream.bench.drive import Turn


def test_gains_are_theirs_over_ours_with_an_interval(result) -> None:
    gain = result["gains"]["2 s"]["record-then-run"]
    assert gain["figure"] == "user_perceived"
    assert gain["value"] == pytest.approx(2.1 / 0.6, rel=0.03)
    assert gain["low"] < gain["value"] < gain["high"]
    assert (gain["n_above"], gain["n_below"]) == (20, 20)


def test_growth_tells_who_waits_longer_for_longer_questions(result) -> None:
    growth = result["growth"]
    assert growth["streaming"]["user_perceived"] == pytest.approx(0.0, abs=0.005)
    assert growth["sentence-streaming"]["user_perceived"] == pytest.approx(0.05, abs=0.005)


def test_growth_of_one_length_is_unknown(turns_of) -> None:
    assert results.growth(turns_of(lengths=(5.0,)), "user_perceived") is None


def test_questions_that_were_cut_off_count_as_such_and_enter_no_latency(told, turns_of) -> None:
    turns = turns_of(lengths=(5.0,), n=10, cut_off=4)
    for turn in turns[:4]:
        turn.client["user_perceived"] = 0.001
    entry = results.summary(told, turns, [], [])["systems"]["streaming"]["5 s"]
    assert (entry["turns"], entry["cut_off"]) == (10, 4)
    assert entry["figures"]["user_perceived"]["n"] == 6
    assert entry["figures"]["user_perceived"]["p50"] > 0.5


def test_turns_without_reply_are_counted_but_not_measured(told, turns_of) -> None:
    lost = Turn("streaming", "2s-99", "2 s", 2.0, "synthesis", status="no reply")
    entry = results.summary(told, [*turns_of(), lost], [], [])["systems"]["streaming"]["2 s"]
    assert (entry["turns"], entry["answered"]) == (21, 20)


def test_turns_whose_parts_do_not_add_up_are_told(told, turns_of) -> None:
    turns = turns_of(lengths=(2.0,))
    turns[3].client["unexplained"] = 0.02
    turns[4].client["unexplained"] = -0.02
    entry = results.summary(told, turns, [], [])["systems"]["streaming"]["2 s"]
    assert entry["check_failed"] == 2


def test_a_crowd_holds_while_its_p95_is_within_the_bound_and_all_are_answered(turns_of) -> None:
    turns = turns_of(n=20, perceived_s=0.9)
    assert results.session_entry(2, turns, bound_s=1.0, load={})["holds"]
    assert not results.session_entry(2, turns, bound_s=0.5, load={})["holds"]
    turns[0].status = "no reply"
    assert not results.session_entry(2, turns, bound_s=1.0, load={})["holds"]


def test_groups_go_from_short_to_long(turns_of) -> None:
    assert results.groups(turns_of(lengths=(10.0, 2.0, 20.0))) == ["2 s", "10 s", "20 s"]


def test_a_result_is_plain_json_without_infinities(result) -> None:
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_table_shows_every_system_and_ratio(result) -> None:
    text = table.text(result)
    assert text.count("sentence-streaming") == 4
    assert "record-then-run takes 3.5" in text
    assert "4 at once" in text
    assert "does not hold" in text


def test_a_busy_machine_is_pointed_out(result) -> None:
    assert "busy with other things" not in table.text(result)
    for turn in result["turns"]:
        turn["load"]["others"] = 1.4
    assert "busy with other things (1.4 cores)" in table.text(result)
