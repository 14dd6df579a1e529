"""Defaults, file, environment, flags, in that order; unknown things name the nearest known."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.cli.settings import (
    dump_settings,
    known_keys,
    load_settings,
    parse_assignment,
)
from textpro_stream.config import LlmOptions, Settings
from textpro_stream.errors import ConfigError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_given_means_defaults() -> None:
    assert load_settings({}, environ={}) == Settings()


def test_later_places_win(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[turn]\nsilence_ms = 600\neager_ms = 250\nthreshold = 1\n")
    environ = {"TEXTPRO_TURN__SILENCE_MS": "700", "TEXTPRO_TURN__BARGE_IN": "false"}
    settings = load_settings({"turn.silence_ms": "800"}, file=file, environ=environ)
    assert settings.turn.silence_ms == 800
    assert settings.turn.eager_ms == 250
    assert settings.turn.threshold == 1.0
    assert settings.turn.barge_in is False
    assert load_settings({}, file=file, environ=environ).turn.silence_ms == 700


def test_the_file_here_comes_before_the_users(tmp_path: Path) -> None:
    theirs = tmp_path / "config" / "textpro-stream" / "textpro.toml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('[llm]\nsystem_prompt = "theirs"\n')
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert load_settings({}, environ=environ).llm.system_prompt == "theirs"
    Path("textpro.toml").write_text('[llm]\nsystem_prompt = "here"\n')
    assert load_settings({}, environ=environ).llm.system_prompt == "here"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[trun]\n", "did you mean 'turn'"),
        ("turn = 3\n", "write [turn]"),
        ("[turn]\nsilence = 3\n", "turn.silence_ms"),
        ("[whisper]\nsilence_ms = 3\n", "turn.silence_ms"),
        ('[turn]\nvad = "silera"\n', "did you mean 'silero'"),
        ('[turn]\nsilence_ms = "long"\n', "a whole number"),
        ("[turn]\nsilence_ms = 1.5\n", "a whole number"),
        ("[turn]\nsilence_ms = true\n", "a whole number"),
        ("[turn]\nbarge_in = 3\n", "true or false"),
        ("[llm]\nsystem_prompt = 3\n", "give text"),
        ("[whisper]\nblock_ms = 0\n", "160 to 2400 in steps of 20 ms"),
        ("[whisper]\nblock_ms = 650\n", "160 to 2400"),
        ("[llm]\ntemperature = nan\n", "0 to 10"),
        ("[turn\n", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refusal:
        load_settings({}, file=file, environ={})
    message = str(refusal.value)
    assert says in message
    assert "wrong.toml" in message
    assert "\n" not in message


def test_a_missing_file_is_refused_when_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load_settings({}, file=tmp_path / "none.toml", environ={})


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("TEXTPRO_TURN__SILENCEMS", "TEXTPRO_TURN__SILENCE_MS"),
        ("TEXTPRO_TURN_SILENCE_MS", "TEXTPRO_TURN__SILENCE_MS"),
        ("TEXTPRO_OTHER__THING", "unknown variable"),
    ],
)
def test_a_misspelt_variable_is_refused(variable: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_settings({}, environ={variable: "700"})


def test_variables_that_are_not_options_are_left_alone() -> None:
    environ = {"TEXTPRO_CACHE": "x", "TEXTPRO_DEBUG": "1", "HOME": "y"}
    assert load_settings({}, environ=environ) == Settings()


def test_flags_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"turn\.silence_ms"):
        load_settings({"turn.silense_ms": "1"}, environ={})
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        parse_assignment("turn.silence_ms")
    assert parse_assignment("llm.system_prompt=a=b") == ("llm.system_prompt", "a=b")


def test_flags_and_the_environment_are_held_within_the_bounds() -> None:
    with pytest.raises(ConfigError, match=r"^speech\.rate_wpm = 9: give 80 to 450 words a minute$"):
        load_settings({"speech.rate_wpm": "9"}, environ={})
    with pytest.raises(ConfigError, match=r"^TEXTPRO_SERVER__DRAIN_S = -1\.0: give 0 to 600 s$"):
        load_settings({}, environ={"TEXTPRO_SERVER__DRAIN_S": "-1"})


def test_options_that_need_each_other_may_come_in_any_order() -> None:
    long_block = {"whisper.block_ms": "2400", "whisper.look_ahead_ms": "0"}
    for flags in (long_block, dict(reversed(long_block.items()))):
        assert load_settings(flags, environ={}).whisper.block_ms == 2400
    with pytest.raises(ConfigError, match="2400 ms or less together"):
        load_settings({"whisper.block_ms": "2400"}, environ={})


@given(prompt=st.text(st.characters(exclude_categories=["Cs"])), seed=st.integers(0, 2**40))
def test_what_is_dumped_loads_back(
    tmp_path_factory: pytest.TempPathFactory, prompt: str, seed: int
) -> None:
    settings = Settings(llm=LlmOptions(system_prompt=prompt, seed=seed, temperature=0.1))
    file = tmp_path_factory.getbasetemp() / "dumped.toml"
    file.write_text(dump_settings(settings), encoding="utf-8", newline="\n")
    assert tomllib.loads(dump_settings(settings))["llm"]["system_prompt"] == prompt
    assert load_settings({}, file=file, environ={}) == settings


def test_every_option_can_be_reached() -> None:
    assert {key.split(".")[0] for key in known_keys()} == {f.name for f in fields(Settings)}
