"""What a dialogue holds, spoken words and their tone included, and what it prefills for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from caller import ANGRY, Caller, check
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llm import spoken
from watched import watched

from textpro_stream.contracts import Message, Tool
from textpro_stream.errors import StageError
from textpro_stream.llm import LanguageModel
from textpro_stream.llm.fusion import Tone

Load = Callable[..., LanguageModel]
FUSIONS = [
    {"fusion": "text"},
    {"fusion": "tags"},
    {"fusion": "interleave", "projector": "random"},
    {"fusion": "global", "projector": "random"},
]
WORDS = "Please set a timer for ten minutes and play quiet music"
STEPS = ["hear", "draft", "reply", "resume", "end", "cut off", "begin", "free"]
STEPS += ["add", "remove", "truncate", "configure"]


def by_fusion(options: dict[str, Any]) -> str:
    return str(options["fusion"])


@pytest.mark.parametrize("context", [128, 400])
@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
@pytest.mark.parametrize("options", FUSIONS, ids=by_fusion)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_whatever_happens_the_cache_is_as_if_told_at_once(
    data: st.DataObject, options: dict[str, Any], kind: str, context: int, load: Load
) -> None:
    caller = Caller(load(kind, context=context, max_tokens=6, **options), tone=ANGRY)
    said = spoken(WORDS)
    for n in range(data.draw(st.integers(1, 12))):
        words = said[: data.draw(st.integers(0, 9))]
        ids = [message.id for message in caller.messages]
        with suppress(StageError):  # a turn that is too long: told, and what fits is taken
            match data.draw(st.sampled_from(STEPS)):
                case "hear":
                    caller.hear(words)
                case "draft":
                    caller.draft(words)
                case "reply":
                    for _, _piece in zip(range(3), caller.reply(), strict=False):
                        pass
                case "resume":
                    caller.resume()
                case "end":
                    caller.end_turn()
                case "cut off":
                    caller.end_turn(data.draw(st.integers(0, 12)))
                case "begin":
                    caller.begin()
                case "free":
                    caller.free()
                case "add":
                    role = data.draw(st.sampled_from(["user", "assistant", "system", "tool"]))
                    caller.add(
                        Message(f"m{n}", role, "Stay dry."),
                        data.draw(st.sampled_from([None, "", *ids])),
                    )
                case "remove" if ids:
                    caller.remove(data.draw(st.sampled_from(ids)))
                case "truncate" if ids:
                    caller.truncate(data.draw(st.sampled_from(ids)), n)
                case "configure":
                    prompt = data.draw(st.sampled_from(["", "Be kind."]))
                    changed = replace(caller.options, system_prompt=prompt)
                    caller.configure(changed, [Tool("weather", "", "{}")])
        check(caller)


@pytest.mark.parametrize("options", FUSIONS[2:], ids=by_fusion)
def test_what_is_changed_before_spoken_words_leaves_them_their_tone(
    options: dict[str, Any], load: Load
) -> None:
    caller = Caller(load("Llama", **options))
    caller.add(Message("s", "system", "Be kind."))
    caller.hear(spoken(WORDS))
    caller.draft()
    list(caller.reply())
    caller.end_turn()
    rows = caller.rows
    tones = [row for row in rows if isinstance(row, Tone)]
    assert tones
    caller.remove("s")
    assert [row for row in caller.rows if isinstance(row, Tone)] == tones
    caller.add(Message("t", "system", "Be kind."), "")
    assert caller.rows == rows
    check(caller)


@pytest.mark.parametrize("options", FUSIONS, ids=by_fusion)
def test_a_draft_gives_way_to_words_that_are_not_its_own(
    options: dict[str, Any], load: Load
) -> None:
    caller = Caller(load("Llama", **options))
    caller.add(Message("m", "user", "Stay dry."))
    caller.draft()  # to answer what is remembered
    pieces = caller.reply()
    next(pieces)
    caller.hear(spoken("No"))  # no row of it may be held yet
    assert list(pieces) == []
    caller.end_turn()
    assert caller.messages[-1] == Message("u1", "user", "No")


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
@pytest.mark.parametrize("options", FUSIONS, ids=by_fusion)
def test_no_row_of_usual_turns_is_computed_twice(
    options: dict[str, Any], kind: str, load: Load
) -> None:
    model, watch = watched(load(kind, context=400, **options))
    caller = Caller(model)
    for n in range(3):
        words = spoken(WORDS, seed=n)
        caller.hear(words[:4])
        caller.hear(words[4:])
        caller.draft()
        ready = caller.dialogue.tokens_cached
        assert watch.prefilled + watch.decoded == ready
        before = watch.prefilled
        list(caller.reply())
        assert watch.prefilled == before  # tokens are decoded
        caller.end_turn()  # what stands between a reply and the next words
        between = len(model.chat.pieces("Answer shortly.").between)
        assert watch.prefilled - before - between in (0, 1)  # the last token was never an input
        assert watch.prefilled + watch.decoded == caller.dialogue.tokens_cached


@pytest.mark.parametrize("options", FUSIONS, ids=by_fusion)
def test_a_reply_that_was_cut_off_costs_only_the_marks_behind_it(
    options: dict[str, Any], load: Load
) -> None:
    model, watch = watched(load("Llama", **options))
    caller = Caller(model)
    caller.hear(spoken(WORDS))
    caller.draft()
    list(caller.reply())
    before = watch.prefilled
    caller.end_turn(3)
    between = len(model.chat.pieces("Answer shortly.").between)
    assert watch.prefilled - before == between
    caller.draft()
    before = watch.prefilled
    caller.resume()
    assert watch.prefilled - before <= between  # the header of the next user
