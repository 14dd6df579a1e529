"""The tone of a turn in words behind it: which words, where they stand, what they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from caller import ANGRY, Caller, check
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llm import spoken

from textpro_stream.config import LlmOptions
from textpro_stream.contracts import OpenTurn, ReplyOptions, ToneReading
from textpro_stream.errors import StageError
from textpro_stream.llm import LanguageModel
from textpro_stream.llm.tags import tag_of

Load = Callable[..., LanguageModel]
QUESTION = "How long should I boil an egg?"
TAG = " (I sound angry.)"


def reading(arousal: float | None = None, **emotion: float) -> ToneReading:
    return ToneReading(arousal, 2.0, 3.0, 1.5, None, emotion)


@pytest.mark.parametrize(
    ("tone", "words"),
    [
        (reading(anger=0.6, neutral=0.4), TAG),
        (reading(sadness=0.5, neutral=0.5), " (I sound sad.)"),
        (reading(0.8, anger=0.4, fear=0.3, neutral=0.3), " (I sound agitated.)"),
        (reading(0.8), " (I sound agitated.)"),
        (reading(0.77, anger=0.4, fear=0.3, neutral=0.3), ""),
        (reading(0.2, boredom=0.4, sadness=0.3, neutral=0.3), ""),
        (reading(0.8, neutral=0.9, anger=0.1), ""),  # it is trusted, and says nothing is the matter
        (reading(sarcasm=0.9), ""),  # no adjective is known for it
        (reading(), ""),
        (None, ""),
    ],
)
def test_what_is_sure_is_said_in_a_few_words(tone: ToneReading | None, words: str) -> None:
    assert tag_of(tone) == words


def test_it_stands_behind_the_words_in_the_same_turn(load: Load) -> None:
    caller = Caller(load("Llama"), tone=ANGRY)
    caller.hear(spoken(QUESTION))
    assert TAG not in caller.text
    caller.draft()
    assert caller.text.endswith(f"{QUESTION}{TAG}<|im_end|>\n<|im_start|>assistant\n")
    check(caller)


def test_it_stays_where_it_was_and_nobody_is_shown_it(load: Load) -> None:
    caller = Caller(load("Llama"), tone=ANGRY)
    caller.hear(spoken(QUESTION))
    caller.draft()
    list(caller.reply())
    read = caller.rows
    caller.end_turn()
    caller.tone = None
    caller.say("And rice?")
    caller.draft()
    assert caller.text.count(TAG) == 1
    assert caller.rows[: len(read)] == read  # nothing of it was read twice
    assert caller.messages[0].text == QUESTION
    check(caller)


def test_a_turn_that_nobody_replies_to_keeps_its_tone(load: Load) -> None:
    caller = Caller(load("Llama"))
    turn = OpenTurn(1, tuple(spoken(QUESTION)), tone=ANGRY)
    caller.dialogue.follow(turn)
    caller.dialogue.close_turn(None)
    assert f"{QUESTION}{TAG}<|im_end|>" in caller.text


def test_what_is_remembered_is_read_alike_by_a_reply_beside_it(load: Load) -> None:
    caller = Caller(load("Llama"), tone=ANGRY)
    caller.hear(spoken(QUESTION))
    list(caller.reply())
    caller.end_turn()
    list(caller.reply(ReplyOptions(remember=False)))
    aside = caller.dialogue._aside
    assert aside is not None
    assert f"{QUESTION}{TAG}<|im_end|>" in aside.snapshot().text


@given(data=st.data(), tone=st.sampled_from([ANGRY, reading(0.8), reading(happiness=1.0)]))
@settings(max_examples=20, deadline=None)
def test_it_changes_nothing_before_it(data: st.DataObject, tone: ToneReading, load: Load) -> None:
    model = load("Llama")
    words = spoken(data.draw(st.text(min_size=1)) + " x")
    plain, told = Caller(model), Caller(model, tone=tone)
    for caller in (plain, told):
        caller.hear(words)
        caller.draft()
    suffix = list(model.chat.pieces(model.options.system_prompt).suffix)
    before = list(plain.rows[: len(plain.rows) - len(suffix)])
    tag = model.chat.encode(tag_of(tone))[0]
    assert list(told.rows) == [*before, *tag, *suffix]


def test_a_draft_stands_while_its_tone_is_the_same(load: Load) -> None:
    caller = Caller(load("Llama"), tone=ANGRY)
    caller.hear(spoken(QUESTION))
    caller.draft()
    first = caller.reply()
    next(first)
    caller.tone = replace(ANGRY, pitch=1.0, emotion={"anger": 0.8, "neutral": 0.2})
    caller.draft()
    assert next(first)
    caller.tone = reading(sadness=0.9)
    caller.draft()
    assert not list(first)  # void: it was a reply to another tone
    assert "sad" in caller.text
    check(caller)


def test_a_turn_that_fills_the_context_goes_without(load: Load) -> None:
    caller = Caller(load("Llama", context=128, max_tokens=8), tone=ANGRY)
    try:
        caller.hear(spoken("please set a timer for ten minutes " * 40))
    except StageError:
        caller.draft()
    assert "angry" not in caller.text
    check(caller)


def test_words_only_are_the_control(load: Load) -> None:
    model = load("Llama", fusion="text")
    caller, plain = Caller(model, tone=ANGRY), Caller(model)
    for each in (caller, plain):
        each.hear(spoken(QUESTION))
        each.draft()
    assert caller.rows == plain.rows
    assert "words only" in model.notice


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, "tags"),
        ({"fusion": "tags"}, "tags"),
        ({"fusion": "tags", "projector": "random"}, "tags"),
        ({"projector": "random"}, "interleave"),
        ({"fusion": "text"}, "text"),
    ],
)
def test_without_a_projector_tone_is_told_in_words(
    options: dict[str, str], kind: str, load: Load
) -> None:
    assert load("Llama", **options).fusion.kind == kind
    assert LlmOptions().fusion == "auto"
