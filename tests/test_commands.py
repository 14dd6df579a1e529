"""Every command can be written down as JSON and read again; nothing else is taken for one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.commands import (
    Add,
    Announce,
    Clear,
    Command,
    Configure,
    Finish,
    Interrupt,
    Played,
    Press,
    Release,
    Remove,
    Respond,
    Rest,
    Say,
    Truncate,
)
from textpro_stream.config import LlmOptions, TurnOptions
from textpro_stream.contracts import Message, ReplyOptions, Tool, ToolCall
from textpro_stream.errors import WireError
from textpro_stream.wire import COMMANDS, command_from_json, command_to_json

TURNS = st.integers(1, 10**6)
TEXTS = st.text(max_size=30)
TOOLS = st.tuples(st.builds(Tool, TEXTS, TEXTS, st.just("{}")))
CALLS = st.tuples(st.builds(ToolCall, TEXTS, st.just("{}")))
MESSAGES = st.builds(
    Message, TEXTS, st.sampled_from(["system", "user", "assistant", "tool"]), TEXTS, CALLS
)
OPTIONS = st.builds(
    ReplyOptions,
    instructions=st.none() | TEXTS,
    max_tokens=st.none() | st.integers(1, 99),
    voice=st.none() | st.booleans(),
    tools=st.none() | TOOLS,
    messages=st.none() | st.tuples(MESSAGES, MESSAGES),
    remember=st.booleans(),
)
ALL: st.SearchStrategy[Command] = st.one_of(
    st.builds(Press, st.booleans()),
    st.sampled_from([Release(), Clear(), Rest(), Finish()]),
    st.builds(Say, TURNS, TEXTS),
    st.builds(Respond, TURNS, OPTIONS),
    st.builds(Announce, TURNS, TEXTS),
    st.builds(
        Configure,
        turn=st.none() | st.builds(TurnOptions, threshold=st.floats(0, 1), barge_in=st.booleans()),
        llm=st.none() | st.builds(LlmOptions, system_prompt=TEXTS, max_tokens=st.integers(1, 99)),
        tools=st.none() | TOOLS,
        replies=st.none() | st.booleans(),
        voice=st.none() | st.booleans(),
        speed=st.none() | st.floats(0.25, 1.5),
    ),
    st.builds(Add, MESSAGES, st.none() | TEXTS),
    st.builds(Remove, TEXTS),
    st.builds(Truncate, TEXTS, st.integers(0, 999)),
    st.builds(
        Interrupt, st.sampled_from(["barge_in", "cancelled"]), st.none() | st.integers(1, 99)
    ),
    st.builds(Played, TURNS, st.integers(0, 10**9)),
)


@given(ALL)
def test_a_command_survives_the_wire(command: Command) -> None:
    line = json.dumps(command_to_json(command))
    assert command_from_json(json.loads(line)) == command


def test_every_command_has_a_name() -> None:
    assert set(COMMANDS.values()) == set(Command.__args__)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({}, "is no command"),
        ({"type": "fly"}, "type 'fly' is no command; known are press"),
        ({"type": "say", "turn": 1}, "say: text is missing"),
        ({"type": "say", "turn": True, "text": "x"}, "say.turn: give int, not True"),
        ({"type": "press", "hard": 1}, "press: there is no 'hard'; known are interrupts"),
        ({"type": "interrupt", "reason": "bored"}, "give one of barge_in, cancelled, not 'bored'"),
        ({"type": "respond", "turn": 1, "options": 5}, "respond.options: give an object"),
        (
            {"type": "configure", "tools": [{"name": "x"}]},
            r"configure.tools\[0\]: description is missing",
        ),
    ],
)
def test_what_is_none_is_told_in_one_line(value: dict, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint) as error:
        command_from_json(value)
    assert "\n" not in str(error.value)
