"""`textpro bench prefill` over a scripted server."""

from __future__ import annotations

import argparse

import pytest
from scripted_llm_server import ScriptedLlmServer

from textpro_stream.bench import prefill
from textpro_stream.clock import VirtualClock
from textpro_stream.config import LlmOptions, Settings
from textpro_stream.errors import ConfigError


async def test_it_asks_in_turns_and_in_new_words_each_time() -> None:
    async with ScriptedLlmServer().running() as server:
        settings = Settings(llm=LlmOptions(url=server.url))
        lines: list[str] = []
        result = await prefill.measure(settings, (2.0, 4.0), 2, VirtualClock(), tell=lines.append)
        words = [asked.words for asked in server.replied]
        assert len(words) == len(set(words)) == 1 + 2 * 2 * 2
        assert {len(text.split()) for text in words} == {6, 11}
        assert len(lines) == 8
        assert [(one["length_s"], one["along"]) for one in result["measured"]][:4] == [
            (2.0, False),
            (2.0, True),
            (4.0, False),
            (4.0, True),
        ]
    table = prefill.text(result)
    assert "(2; 32 of 40)" in table
    assert "each second of question adds" in table


def test_it_wants_a_server() -> None:
    args = argparse.Namespace(each=1, lengths=(2.0,), json=None)
    with pytest.raises(ConfigError, match="give --llm http://"):
        prefill.run(args, Settings())
