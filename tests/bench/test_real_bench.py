"""The whole measurement over real sockets and models: is it consistent? Never: is it fast?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median
from typing import Any

import pytest

from textpro_stream.bench.stepwise import KINDS

pytestmark = pytest.mark.weights
OURS = "streaming"
EACH = 2
MAIN = "from textpro_stream.cli.main import main; raise SystemExit(main())"


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["bench", "baseline", "--each", str(EACH), "--lengths", "2", "--sessions", "2"]
    files = ["--report", str(folder / "r.html"), "--json", str(folder / "r.json")]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments, *files],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result == json.loads((folder / "r.json").read_text())
    assert (folder / "r.html").stat().st_size > 10_000
    return result


def test_every_question_is_answered_by_every_system(measured) -> None:
    assert set(measured["systems"]) == {OURS, *KINDS}
    for groups in measured["systems"].values():
        assert groups["2 s"]["answered"] == EACH


def test_systems_took_turns(measured) -> None:
    assert [turn["system"] for turn in measured["turns"]] == [OURS, *KINDS] * EACH
    questions = [turn["question"] for turn in measured["turns"]]
    assert questions[:3] == [questions[0]] * 3
    assert questions[0] != questions[3]


def test_parts_of_every_wait_add_up(measured) -> None:
    # A part left out would be missing in every turn; on a busy machine one message may wait long.
    missing = [abs(turn["client"]["unexplained"]) for turn in measured["turns"]]
    assert median(missing) < 0.1, missing


def test_baselines_do_nothing_before_the_endpoint(measured) -> None:
    for turn in measured["turns"]:
        if turn["system"] != OURS:
            assert turn["marks"]["ttft_ready"] > 0
            assert turn["marks"]["asr_final"] > 0


def test_all_systems_heard_the_same_words_about(measured) -> None:
    for turn in measured["turns"]:
        assert len(turn["transcript"].split()) >= 4, turn


def test_listeners_at_once_are_answered(measured) -> None:
    (entry,) = measured["sessions"]
    assert (entry["sessions"], entry["answered"]) == (2, entry["turns"])
