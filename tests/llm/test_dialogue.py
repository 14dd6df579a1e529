from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llm import spoken

from textpro_stream.errors import ConfigError, StageError
from textpro_stream.llm import Dialogue, LanguageModel
from textpro_stream.llm.chat import Pieces
from textpro_stream.llm.fusion import Row

Load = Callable[..., LanguageModel]
QUESTION = "How long should I boil an egg tonight in the kitchen?"
FUSIONS = [
    {"fusion": "text"},
    {"fusion": "interleave", "projector": "random"},
    {"fusion": "global", "projector": "random"},
]
QWEN = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}


def ask(dialogue: Dialogue, text: str) -> str:
    dialogue.hear(spoken(text))
    dialogue.draft()
    return "".join(dialogue.reply())


def logits(dialogue: Dialogue) -> torch.Tensor:
    return dialogue._cache.logits()


def pieces_of(dialogue: Dialogue) -> Pieces:
    return dialogue._model.chat.pieces(dialogue._options.system_prompt)


def turns_of(dialogue: Dialogue) -> list[list[Row]]:
    """Rows of each finished turn, as they stand behind the opening."""
    at, turns = len(pieces_of(dialogue).opening), []
    for n in dialogue.rows_of_turns:
        turns.append(dialogue._cache.rows[at : at + n])
        at += n
    return turns


def history(model: LanguageModel, *turns: str) -> list[int]:
    """Ids of a conversation by the tokenizer's own template: user, assistant, user, ..."""
    pieces, encode = model.chat.pieces(model.options.system_prompt), model.chat.encode
    ids = [*pieces.opening, *encode(turns[0])[0], *pieces.suffix]
    for reply, user in zip(turns[1::2], turns[2::2], strict=True):
        ids += [*encode(reply)[0], *pieces.between, *encode(user)[0], *pieces.suffix]
    return ids


# generate tells that the penalty counts the reply alone, which is what ours does as well
@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`:UserWarning")
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3"])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_replies_are_those_of_generate(
    kind: str, penalty: float, load: Load, folder_of: Callable[..., Path]
) -> None:
    from transformers import AutoModelForCausalLM

    model = load(kind, repetition_penalty=penalty, max_tokens=20)
    dialogue = model.open()
    ask(dialogue, QUESTION)
    assert dialogue._reply is not None
    theirs = AutoModelForCausalLM.from_pretrained(folder_of(kind), dtype=torch.float32)
    rows = model.rows(history(model, QUESTION)).clone()
    made = theirs.generate(
        inputs_embeds=rows[None],
        attention_mask=torch.ones(1, len(rows), dtype=torch.long),
        max_new_tokens=20,
        do_sample=False,
        repetition_penalty=penalty,
        pad_token_id=0,
    )[0].tolist()
    ours = dialogue._reply.tokens
    assert ours == [token for token in made if token not in dialogue._stops]
    assert dialogue.reason == ("stop" if len(made) > len(ours) else "length")


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
@pytest.mark.parametrize("options", FUSIONS, ids=lambda o: o["fusion"])
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_words_in_any_pieces_with_any_drafts_are_the_words_at_once(
    data: st.DataObject, options: dict[str, Any], kind: str, load: Load
) -> None:
    model = load(kind, **options)
    spans = spoken(QUESTION)
    whole = model.open()
    whole.hear(spans)
    whole.draft()
    dialogue, told = model.open(), 0
    while told < len(spans):
        match data.draw(st.sampled_from(["hear", "draft", "reply", "resume"])):
            case "hear":
                n = data.draw(st.integers(1, 4))
                dialogue.hear(spans[told : told + n])
                told += n
            case "draft":
                dialogue.draft(spoken("or maybe not", seed=9)[: data.draw(st.integers(0, 3))])
            case "reply":
                pieces = dialogue.reply()
                for _ in range(data.draw(st.integers(0, 3))):
                    next(pieces, None)
            case "resume":
                dialogue.resume()
    dialogue.draft()
    list(dialogue.reply())
    assert dialogue._held[: len(whole._held)] == whole._held
    dialogue._cache._ready().crop(whole.length)
    torch.testing.assert_close(logits(dialogue), logits(whole), atol=2e-4, rtol=1e-4)


def test_history_is_what_the_template_says(load: Load) -> None:
    model = load("Llama", config=QWEN)
    dialogue = model.open()
    dialogue.say("How long?")
    dialogue.draft()
    reply = "".join(dialogue.reply())
    dialogue.end_turn()
    dialogue.say("And rice?")
    dialogue.draft()
    expected = model.backbone.open(256)
    pieces, encode = model.chat.pieces(model.options.system_prompt), model.chat.encode
    first = turns_of(dialogue)[0]
    ids = history(model, "How long?")[len(pieces.opening) :]
    assert first[: len(ids)] == ids
    assert first[-len(pieces.between) :] == list(pieces.between)
    rows = [*pieces.opening, *first, *encode("And rice?")[0], *pieces.suffix]
    expected.prefill(model.rows(rows))
    assert dialogue.length == len(rows)
    assert dialogue.rows_of_turns == (len(first),)
    torch.testing.assert_close(logits(dialogue), expected.logits(), atol=2e-4, rtol=1e-4)
    assert reply


def test_only_what_was_heard_is_remembered(load: Load) -> None:
    dialogue = load("Llama", max_tokens=12).open()
    dialogue.hear(spoken(QUESTION))
    dialogue.draft()
    pieces = list(dialogue.reply())
    before = dialogue.length
    assert dialogue._reply is not None
    tokens, texts = list(dialogue._reply.tokens), list(dialogue._reply.texts)
    heard = len("".join(texts[:4])) + 1  # one character into the fifth token, or a later one
    kept = next(n for n in range(len(texts) + 1) if len("".join(texts[:n])) >= heard)
    dialogue.end_turn(heard)
    between = len(pieces_of(dialogue).between)
    assert turns_of(dialogue)[0][-between - kept : -between] == tokens[:kept]
    assert dialogue.length < before + between
    assert pieces


@pytest.mark.parametrize("heard", [0, 10_000, None])
def test_heard_nothing_or_everything(heard: int | None, load: Load) -> None:
    dialogue = load("Llama").open()
    ask(dialogue, QUESTION)
    n = len(dialogue._reply.tokens) if dialogue._reply else 0
    user = len(dialogue._draft or ())
    dialogue.end_turn(heard)
    marks = len(pieces_of(dialogue).suffix) + len(pieces_of(dialogue).between)
    assert dialogue.rows_of_turns == (user + marks + (0 if heard == 0 else n),)


def test_a_reply_is_decoded_only_as_it_is_drawn(load: Load) -> None:
    dialogue = load("Llama").open()
    dialogue.hear(spoken(QUESTION))
    dialogue.draft()
    ready = dialogue.length
    pieces = dialogue.reply()
    assert (dialogue.tokens_decoded, dialogue.length) == (0, ready)
    next(pieces)
    assert dialogue.tokens_decoded >= 1
    assert dialogue.reason == ""


def test_a_second_reply_to_the_same_draft_is_the_same_and_costs_nothing(load: Load) -> None:
    dialogue = load("Llama", temperature=0.8).open()
    dialogue.hear(spoken(QUESTION)[:-2])
    dialogue.draft(spoken(QUESTION)[-2:])
    first = dialogue.reply()
    begun = [next(first), next(first)]
    dialogue.hear(spoken(QUESTION)[-2:])  # the tail was committed as it was drafted
    dialogue.draft()
    decoded = dialogue.tokens_decoded
    again = dialogue.reply()
    assert [next(again), next(again)] == begun
    assert dialogue.tokens_decoded == decoded
    rest = list(first)
    assert list(again) == rest


def test_a_reply_ends_when_its_draft_is_dropped(load: Load) -> None:
    dialogue = load("Llama").open()
    dialogue.hear(spoken("How long"))
    dialogue.draft()
    pieces = dialogue.reply()
    next(pieces)
    dialogue.hear(spoken("should I boil"))
    assert list(pieces) == []
    dialogue.draft()
    assert "".join(dialogue.reply())


def test_a_draft_that_was_dropped_samples_the_same_when_taken_again(load: Load) -> None:
    model = load("Llama", temperature=0.8, seed=4)
    plain, wavering = model.open(), model.open()
    wavering.hear(spoken("How long should"))
    wavering.draft()
    list(wavering.reply())
    wavering.resume()
    wavering.hear(spoken("I boil it?"))
    plain.hear(spoken("How long should I boil it?"))
    assert list(wavering.reply()) == list(plain.reply())


def test_a_turn_without_words_leaves_no_trace(load: Load) -> None:
    dialogue = load("Llama").open()
    ask(dialogue, "Hello there.")
    dialogue.end_turn()
    length, before = dialogue.length, logits(dialogue).clone()
    for cancel in (dialogue.resume, dialogue.end_turn, dialogue.begin):
        dialogue.draft()
        cancel()
        assert dialogue.length == length
        torch.testing.assert_close(logits(dialogue), before)
    dialogue.hear(spoken("Never mind"))
    dialogue.begin()
    torch.testing.assert_close(logits(dialogue), before)
    assert len(dialogue.rows_of_turns) == 1


def test_a_turn_may_end_without_a_reply(load: Load) -> None:
    dialogue = load("Llama").open()
    dialogue.hear(spoken("Hello there."))
    dialogue.end_turn()
    n = len(dialogue._model.chat.encode("Hello there.")[0])
    (message,) = dialogue.messages
    assert (message.role, message.text) == ("user", "Hello there.")
    assert dialogue.rows_of_turns[0] >= n


def test_the_oldest_turns_make_room_as_a_whole(load: Load) -> None:
    model = load("Llama", context=160, max_tokens=8)
    dialogue = model.open()
    made = 0
    for n in range(12):
        ask(dialogue, f"Please set a timer for {n} minutes.")
        dialogue.end_turn()
        made += 1
        if dialogue.needs_room():
            kept = turns_of(dialogue)[-1]
            dialogue.make_room()
            assert dialogue.length <= 80
            assert not dialogue.rows_of_turns or turns_of(dialogue)[-1] == kept
            assert not dialogue.needs_room()
    assert len(dialogue.rows_of_turns) < made
    fresh = model.backbone.open(160)
    fresh.prefill(
        model.rows(
            [*pieces_of(dialogue).opening, *(row for turn in turns_of(dialogue) for row in turn)]
        )
    )
    torch.testing.assert_close(logits(dialogue), fresh.logits(), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("options", FUSIONS, ids=lambda o: o["fusion"])
def test_a_turn_too_long_for_the_context_drops_history_then_its_own_end(
    options: dict[str, Any], load: Load
) -> None:
    model = load("Llama", context=128, max_tokens=8, **options)
    dialogue = model.open()
    ask(dialogue, "Hello there.")
    dialogue.end_turn()
    complaints = []
    for n in range(40):
        try:
            dialogue.hear(spoken("please set a timer for ten minutes", seed=n))
        except StageError as error:
            complaints.append(str(error))
    try:
        dialogue.draft()
    except StageError as error:
        complaints.append(str(error))
    assert len(complaints) == 1
    assert "\n" not in complaints[0]
    assert "context" in complaints[0]
    assert dialogue.rows_of_turns == ()
    assert len("".join(dialogue.reply())) > 0
    dialogue.end_turn()
    assert dialogue.length <= 128
    ask(dialogue, "Hello again.")  # and life goes on
    dialogue.end_turn()
    assert dialogue.length <= 128


def test_a_reply_never_outgrows_the_cache(load: Load) -> None:
    dialogue = load("Llama", context=96, max_tokens=500).open()
    ask(dialogue, QUESTION)
    assert dialogue.reason in ("length", "stop")
    dialogue.end_turn()
    assert dialogue.length <= 96


def test_a_prompt_that_fills_the_context_is_refused_in_one_line(load: Load) -> None:
    with pytest.raises(ConfigError, match="too small for a system prompt of") as caught:
        load("Llama", context=64, system_prompt=QUESTION * 4).open()
    assert "\n" not in str(caught.value)


def test_work_is_told_to_the_observer(load: Load) -> None:
    class Told:
        names: list[str] = []  # noqa: RUF012 - one use

        def span(self, name: str) -> AbstractContextManager[None]:
            self.names.append(name)
            return nullcontext()

    dialogue = load("Llama").open(observer=Told())
    ask(dialogue, "Hello there.")
    assert set(Told.names) == {"prefill", "decode"}
