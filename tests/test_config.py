"""Options check themselves: a library user is refused like somebody at the command line."""

import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest

from textpro_stream import config
from textpro_stream.bounds import Checked, kinds
from textpro_stream.config import (
    DeviceOptions,
    LlmOptions,
    ServerOptions,
    SpeechOptions,
    TurnOptions,
    WhisperOptions,
)
from textpro_stream.errors import ConfigError

SECTIONS = [type(getattr(config.Settings(), field.name)) for field in fields(config.Settings)]


@pytest.mark.parametrize(
    ("options", "given", "says"),
    [
        (WhisperOptions, {"block_ms": 0}, "block_ms = 0: give 160 to 2400 in steps of 20 ms"),
        (WhisperOptions, {"block_ms": 140}, "whisper.block_ms"),
        (WhisperOptions, {"block_ms": 330}, "in steps of 20 ms"),
        (WhisperOptions, {"block_ms": 2420, "look_ahead_ms": 0}, "whisper.block_ms"),
        (WhisperOptions, {"look_ahead_ms": -20}, "whisper.look_ahead_ms"),
        (WhisperOptions, {"look_ahead_ms": 50}, "whisper.look_ahead_ms"),
        (WhisperOptions, {"block_ms": 1200, "look_ahead_ms": 1220}, "2400 ms or less together"),
        (WhisperOptions, {"dtype": "int4"}, "did you mean 'int8'?"),
        (TurnOptions, {"vad": "none"}, "one of silero, webrtc"),
        (TurnOptions, {"threshold": float("nan")}, "give 0 to 1"),
        (TurnOptions, {"barge_in": 1}, "give true or false"),
        (LlmOptions, {"max_tokens": 8.5}, "give a whole number"),
        (LlmOptions, {"top_p": True}, "give a number"),
        (LlmOptions, {"system_prompt": None}, "give text"),
        (
            SpeechOptions,
            {"rate_wpm": 2000},
            "rate_wpm = 2000: give 80 to 450 words a minute",
        ),
        (DeviceOptions, {"threads": -1}, "give 0 to 256"),
        (ServerOptions, {"events_per_s": 0}, "give 1 to 100000 a second"),
        (ServerOptions, {"port": "8765"}, "server.port = '8765': give a whole number"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: type, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        options(**given)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_changed_copy_is_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"turn\.silence_ms = 5: give 20 to 10000 ms"):
        replace(TurnOptions(), silence_ms=5)


def test_a_refusal_tells_a_program_what_was_wrong() -> None:
    with pytest.raises(ConfigError) as refused:
        TurnOptions(silence_ms=5)
    assert refused.value.facts == {"key": "turn.silence_ms", "value": 5}


def test_a_whole_number_will_do_where_a_fraction_may_stand() -> None:
    assert ServerOptions(idle_s=5).idle_s == 5


@pytest.mark.parametrize("options", SECTIONS)
def test_every_number_has_bounds_and_both_ends_are_allowed(options: type[Checked]) -> None:
    for name, kind in kinds(options).items():
        if kind.type in (int, float):
            assert kind.range is not None, name
            for end in (kind.range.least, kind.range.greatest):
                others = {"look_ahead_ms": 0} if name == "block_ms" else {}
                others = {"block_ms": 160} if name == "look_ahead_ms" else others
                assert getattr(options(**others | {name: end}), name) == end


def test_options_are_read_without_a_heavy_library() -> None:
    heavy = "{'torch', 'numpy', 'transformers'} & set(sys.modules)"
    code = f"import sys, textpro_stream.config; sys.exit(bool({heavy}))"
    subprocess.run([sys.executable, "-c", code], check=True)
