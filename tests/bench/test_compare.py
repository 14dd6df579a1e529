from __future__ import annotations

import argparse
import json

import pytest

from textpro_stream.bench import compare, results
from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError


@pytest.fixture
def written(tmp_path, told, turns_of):
    def write(name: str, **changes: object):
        path = tmp_path / name
        path.write_text(json.dumps(results.summary(told, turns_of(**changes), [], [])))
        return path

    return write


def verdicts(capsys, a, b) -> dict[str, str]:
    """user_perceived's line by group."""
    assert compare.run(argparse.Namespace(before=a, after=b), Settings()) == 0
    lines = capsys.readouterr().out.splitlines()
    found, group = {}, ""
    for line in lines:
        if line.startswith("streaming, "):
            group = line.split(":")[0].removeprefix("streaming, ")
        elif line.lstrip().startswith("user_perceived"):
            found[group] = line
    return found


def test_a_change_beyond_chance_is_named(written, capsys) -> None:
    told = verdicts(capsys, written("a", perceived_s=0.6), written("b", perceived_s=0.8))
    assert told["2 s"].endswith("slower")
    assert "1.33 times" in told["2 s"]
    told = verdicts(capsys, written("a", perceived_s=0.8), written("b", perceived_s=0.6))
    assert told["5 s"].endswith("faster")


def test_chance_is_not_called_a_change(written, capsys) -> None:
    told = verdicts(capsys, written("a"), written("b"))
    assert told["2 s"].endswith("no difference shown with 20 turns")


def test_few_turns_are_said_to_be_few(written, capsys) -> None:
    told = verdicts(capsys, written("a", n=3), written("b", n=3, perceived_s=0.9))
    assert told["2 s"].endswith("too few turns to tell (3; 8 at least)")


def test_what_only_one_of_them_has_is_said(written, capsys) -> None:
    compare.run(
        argparse.Namespace(before=written("a"), after=written("b", lengths=(2.0,))), Settings()
    )
    assert "streaming, 5 s: only in A" in capsys.readouterr().out


def test_other_conditions_are_pointed_out(written, capsys) -> None:
    a, b = written("a"), written("b")
    entry = json.loads(b.read_text())
    entry["environment"]["processor"] = "another"
    b.write_text(json.dumps(entry))
    compare.run(argparse.Namespace(before=a, after=b), Settings())
    assert "different in A and B: processor" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", '{"kind": "other"}', None])
def test_what_is_no_result_is_refused_in_one_line(tmp_path, content) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"x\.json"):
        compare.read_result(path)
