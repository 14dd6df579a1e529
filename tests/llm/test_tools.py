from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textpro_stream.contracts import Tool, ToolCall
from textpro_stream.errors import ConfigError
from textpro_stream.llm.tools import CallSplitter, declared, requested, written

RAIN = '{"name": "weather", "arguments": {"city": "Köln"}}'
WEATHER = ToolCall("weather", '{"city": "Köln"}')


def split(*pieces: str) -> tuple[str, list[ToolCall]]:
    splitter = CallSplitter()
    said = "".join(map(splitter.push, pieces)) + splitter.finish()
    return said, splitter.calls


@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        ("It rains.", "It rains.", []),
        (f"<tool_call>{RAIN}</tool_call>", "", [WEATHER]),
        (f"\n<tool_call>\n{RAIN}\n</tool_call>\n", "", [WEATHER]),
        (f"<tool_call>{RAIN}</tool_call>\n<tool_call>{RAIN}</tool_call>", "", [WEATHER, WEATHER]),
        (f"Let me see. <tool_call>{RAIN}</tool_call>", "Let me see.", [WEATHER]),
        (f"One <tool_call>{RAIN}</tool_call> two", "One two", [WEATHER]),
        (f"<tool_call>{RAIN}", "", [WEATHER]),  # the end of the reply closes it
        (RAIN, "", [WEATHER]),
        (f" {RAIN.replace('arguments', 'parameters')}\n", "", [WEATHER]),
        ('<tool_call>{"name": "now"}</tool_call>', "", [ToolCall("now", "{}")]),
        ('{"name": "w", "arguments": "{\\"a\\": 1}"}', "", [ToolCall("w", '{"a": 1}')]),
    ],
)
def test_calls_are_taken_out_of_the_words(text: str, said: str, calls: list[ToolCall]) -> None:
    assert split(text) == (said, calls)
    assert split(*text) == (said, calls)


@pytest.mark.parametrize(
    "text",
    [
        "a < b and <tool> and <tool_call",
        "Well,\n<tool_call>weather(Köln)</tool_call> so",
        "<tool_call>{}</tool_call>",
        "<tool_call>" + RAIN[:-4],
        f"{RAIN} is how it is written",
        '{"answer": 42}',
        '{"name": "Bob", "age": 3}',
        '{"name": "w", "arguments": {"a": NaN}}',
        '{"name": "w", "arguments": {"a": 1e999}}',
        '{"name": "w", "arguments": {"a": "\\ud800"}}',
        '{"name": "", "arguments": {}}',
        '{"name": "w", "arguments": [1]}',
        "{" * 3000,
        "[" * 100_000,
        " \n",
    ],
)
def test_what_only_looks_like_a_call_is_text(text: str) -> None:
    assert split(text) == (text, [])


FRAGMENTS = st.lists(
    st.sampled_from(
        ["<tool_call>", "</tool_call>", RAIN, "<", "<tool", "{", "}", " ", "\n", "egg", "</"]
    ),
    max_size=8,
).map("".join)


@given(text=FRAGMENTS, data=st.data())
def test_pieces_of_any_size_split_as_the_whole(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole, calls = split(text)
    assert split(*pieces) == (whole, calls)
    if not calls:
        assert whole == text  # nothing is lost


def test_words_are_not_held_back() -> None:
    splitter = CallSplitter()
    assert [splitter.push(p) for p in ("It", " rains", " <b")] == ["It", " rains", " <b"]
    assert [splitter.push(p) for p in (" and", " <", "tool")] == [" and", "", ""]
    assert splitter.finish() == " <tool"


def test_calls_that_are_written_are_read_again() -> None:
    calls = [WEATHER, ToolCall("now", "{}")]
    assert split(written(calls)) == ("", calls)


def test_a_clients_own_arguments_may_be_no_json() -> None:
    (shown,) = requested([ToolCall("w", "not json")])
    assert shown["function"] == {"name": "w", "arguments": "not json"}


def test_tools_are_declared_as_templates_expect() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    (shown,) = declared([Tool("weather", "Tells the weather.", json.dumps(schema))])
    function = {"name": "weather", "description": "Tells the weather.", "parameters": schema}
    assert shown == {"type": "function", "function": function}


@pytest.mark.parametrize("parameters", ["{", "[]", "7"])
def test_parameters_that_are_no_object_are_refused_in_one_line(parameters: str) -> None:
    with pytest.raises(ConfigError, match="tool 'weather'"):
        declared([Tool("weather", "", parameters)])
