from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from caller import ANGRY, Caller, check
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llm import spoken
from watched import watched

from textpro_stream.contracts import GenerationEnd, Message
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.llm import LanguageModel
from textpro_stream.llm.dialogue import Snapshot

Load = Callable[..., LanguageModel]
QUESTION = "How long should I boil an egg tonight in the kitchen?"
FUSIONS = [
    {"fusion": "text"},
    {"fusion": "tags"},
    {"fusion": "interleave", "projector": "random"},
    {"fusion": "global", "projector": "random"},
]
QWEN = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}


def history(model: LanguageModel, *turns: str) -> list[int]:
    """Ids of a conversation by the tokenizer's own template: user, assistant, user, ..."""
    pieces, encode = model.chat.pieces(model.options.system_prompt), model.chat.encode
    ids = [*pieces.opening, *encode(turns[0])[0], *pieces.suffix]
    for reply, user in zip(turns[1::2], turns[2::2], strict=True):
        ids += [*encode(reply)[0], *pieces.between, *encode(user)[0], *pieces.suffix]
    return ids


def same(one: Snapshot, other: Snapshot) -> None:
    """The LLM has read the same, and would go on alike."""
    assert one.rows == other.rows
    torch.testing.assert_close(one.logits, other.logits, atol=2e-4, rtol=1e-4)


# generate tells that the penalty counts the reply alone, which is what ours does as well
@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`:UserWarning")
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3"])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_replies_are_those_of_generate(
    kind: str, penalty: float, load: Load, folder_of: Callable[..., Path]
) -> None:
    from transformers import AutoModelForCausalLM

    model = load(kind, repetition_penalty=penalty, max_tokens=20)
    caller = Caller(model)
    caller.hear(spoken(QUESTION))
    cached = caller.dialogue.tokens_cached
    caller.draft()
    text = "".join(caller.reply())
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
    ours = [token for token in made if token not in model.chat.stop_ids()]
    assert caller.end is not None
    assert caller.end == GenerationEnd(
        "stop" if len(made) > len(ours) else "length", len(rows), cached
    )
    caller.end_turn()
    said = model.chat.text_stream()
    assert text == "".join(map(said.push, ours))
    assert list(caller.snapshot.entries[-1].rows) == ours


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
@pytest.mark.parametrize("options", FUSIONS, ids=lambda o: o["fusion"])
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_words_in_any_pieces_with_any_drafts_are_the_words_at_once(
    data: st.DataObject, options: dict[str, Any], kind: str, load: Load
) -> None:
    model = load(kind, **options)
    spans = spoken(QUESTION)
    whole = Caller(model, tone=ANGRY)
    whole.hear(spans)
    whole.draft()
    caller, told = Caller(model, tone=ANGRY), 0
    while told < len(spans):
        match data.draw(st.sampled_from(["hear", "draft", "reply", "resume"])):
            case "hear":
                n = data.draw(st.integers(1, 4))
                caller.hear(spans[told : told + n])
                told += n
            case "draft":
                caller.draft(spoken("or maybe not", seed=9)[: data.draw(st.integers(0, 3))])
            case "reply":
                pieces = caller.reply()
                for _ in range(data.draw(st.integers(0, 3))):
                    next(pieces, None)
            case "resume":
                caller.resume()
    caller.draft()
    same(caller.snapshot, whole.snapshot)
    assert list(caller.reply()) == list(whole.reply())
    same(caller.snapshot, whole.snapshot)


def test_history_is_what_the_template_says(load: Load) -> None:
    model = load("Llama", config=QWEN)
    caller = Caller(model)
    assert caller.ask("How long?")
    caller.end_turn()
    made = caller.snapshot.entries[-1].rows
    caller.say("And rice?")
    caller.draft()
    pieces, encode = model.chat.pieces(model.options.system_prompt), model.chat.encode
    ids = [*history(model, "How long?"), *made, *pieces.between]
    ids += [*encode("And rice?")[0], *pieces.suffix]
    assert list(caller.rows) == ids
    check(caller)


def test_only_what_was_heard_is_remembered(load: Load) -> None:
    caller = Caller(load("Llama", max_tokens=12))
    caller.hear(spoken(QUESTION))
    caller.draft()
    pieces = list(caller.reply())
    reply = len(caller.model.chat.encode("".join(pieces))[0])
    heard = len("".join(pieces[:4])) + 1  # one character into the fifth piece
    whole = caller.snapshot
    caller.end_turn(heard)
    entry = caller.snapshot.entries[-1]
    assert entry.message.text == "".join(pieces[:5])
    assert 0 < len(entry.rows) < reply
    n = len(history(caller.model, QUESTION))
    assert entry.rows == whole.rows[n : n + len(entry.rows)]  # the tokens that were drawn
    between = caller.model.chat.pieces(caller.options.system_prompt).between
    assert caller.rows == (*whole.rows[:n], *entry.rows, *between)


@pytest.mark.parametrize("heard", [0, 10_000, None])
def test_heard_nothing_or_everything(heard: int | None, load: Load) -> None:
    caller = Caller(load("Llama"))
    text = caller.ask(QUESTION)
    caller.end_turn(heard)
    said = "" if heard == 0 else text
    assert caller.messages == (
        Message("u1", "user", QUESTION),
        Message("a1", "assistant", said),
    )
    check(caller)


def test_without_a_playout_there_was_no_reply(load: Load) -> None:
    caller = Caller(load("Llama"))
    caller.ask(QUESTION)
    caller.dialogue.close_turn(None)
    assert caller.messages == (Message("u1", "user", QUESTION),)


def test_a_reply_is_decoded_only_as_it_is_drawn(load: Load) -> None:
    model, watch = watched(load("Llama"))
    caller = Caller(model)
    caller.hear(spoken(QUESTION))
    caller.draft()
    ready = caller.dialogue.tokens_cached
    pieces = caller.reply()
    assert caller.dialogue.tokens_cached == ready
    for n in range(3):
        assert next(pieces)
        assert caller.tokens >= n + 1
        assert caller.tokens - 1 <= watch.decoded <= caller.tokens
    assert caller.end is None


def test_a_second_reply_to_the_same_draft_is_the_same_and_costs_nothing(load: Load) -> None:
    model, watch = watched(load("Llama", temperature=0.8))
    caller = Caller(model)
    caller.hear(spoken(QUESTION)[:-2])
    caller.draft(spoken(QUESTION)[-2:])
    first = caller.reply()
    begun = [next(first), next(first)]
    caller.hear(spoken(QUESTION)[-2:])  # the tail was committed as it was drafted
    caller.draft()
    computed = (watch.prefilled, watch.decoded)
    again = caller.reply()
    assert [next(again), next(again)] == begun
    assert (watch.prefilled, watch.decoded) == computed
    rest = list(first)
    assert list(again) == rest


def test_a_reply_ends_when_its_draft_is_dropped(load: Load) -> None:
    caller = Caller(load("Llama"))
    caller.hear(spoken("How long"))
    caller.draft()
    pieces = caller.reply()
    next(pieces)
    caller.hear(spoken("should I boil"))
    assert list(pieces) == []
    caller.draft()
    assert "".join(caller.reply())


def test_a_draft_that_was_dropped_samples_the_same_when_taken_again(load: Load) -> None:
    model = load("Llama", temperature=0.8, seed=4)
    plain, wavering = Caller(model), Caller(model)
    wavering.hear(spoken("How long should"))
    wavering.draft()
    list(wavering.reply())
    wavering.resume()
    wavering.hear(spoken("I boil it?"))
    plain.hear(spoken("How long should I boil it?"))
    assert list(wavering.reply()) == list(plain.reply())


def test_a_turn_without_words_leaves_no_trace(load: Load) -> None:
    caller = Caller(load("Llama"))
    caller.ask("Hello there.")
    caller.end_turn()
    before, messages = caller.snapshot, caller.messages
    for cancel in (caller.resume, lambda: caller.dialogue.close_turn(None), caller.begin):
        caller.draft()
        cancel()
        same(caller.snapshot, before)
    caller.hear(spoken("Never mind"))
    caller.begin()
    same(caller.snapshot, before)
    assert caller.messages == messages


def test_a_turn_may_end_without_a_reply(load: Load) -> None:
    caller = Caller(load("Llama"))
    caller.hear(spoken("Hello there."))
    caller.end_turn()
    assert caller.messages == (Message("u1", "user", "Hello there."),)
    assert "Hello there." in caller.text


def test_the_oldest_turns_make_room_as_a_whole(load: Load) -> None:
    model = load("Llama", context=160, max_tokens=8)
    caller = Caller(model)
    forgot = 0
    for n in range(12):
        caller.ask(f"Please set a timer for {n} minutes.")
        known = [message.id for message in caller.messages]
        before = len(caller.rows)
        caller.end_turn()
        known += [f"u{n + 1}", f"a{n + 1}"]
        left = [message.id for message in caller.messages]
        if left != known:  # turns, whole, and the oldest
            forgot += 1
            assert left == known[len(known) - len(left) :]
            assert len(left) % 2 == 0
            assert len(caller.rows) <= 80
            assert len(caller.rows) < before
        check(caller)
    assert forgot > 1


@pytest.mark.parametrize("options", FUSIONS, ids=lambda o: o["fusion"])
def test_a_turn_too_long_for_the_context_drops_history_then_its_own_end(
    options: dict[str, Any], load: Load
) -> None:
    caller = Caller(load("Llama", context=128, max_tokens=8, **options))
    caller.ask("Hello there.")
    caller.end_turn()
    complaints = []
    for n in range(40):
        try:
            caller.hear(spoken("please set a timer for ten minutes", seed=n))
        except StageError as error:
            complaints.append(str(error))
    try:
        caller.draft()
    except StageError as error:
        complaints.append(str(error))
    assert len(complaints) == 1
    assert "\n" not in complaints[0]
    assert "context" in complaints[0]
    assert caller.messages == ()
    assert "".join(caller.reply())
    caller.end_turn()
    assert len(caller.rows) <= 128
    caller.ask("Hello again.")  # and life goes on
    caller.end_turn()
    assert len(caller.rows) <= 128


def test_a_reply_never_outgrows_the_cache(load: Load) -> None:
    caller = Caller(load("Llama", context=96, max_tokens=500))
    caller.ask(QUESTION)
    assert caller.end is not None
    assert len(caller.rows) <= 96
    caller.end_turn()
    assert len(caller.rows) <= 96


def test_a_prompt_that_fills_the_context_is_refused_in_one_line(load: Load) -> None:
    with pytest.raises(ConfigError, match="too small for a system prompt of") as caught:
        Caller(load("Llama", context=64, system_prompt=QUESTION * 4))
    assert "\n" not in str(caught.value)


def test_work_is_told_to_the_observer(load: Load) -> None:
    class Told:
        names: list[str] = []  # noqa: RUF012 - one use

        def span(self, name: str) -> AbstractContextManager[None]:
            self.names.append(name)
            return nullcontext()

    caller = Caller(load("Llama"), observer=Told())
    caller.ask("Hello there.")
    assert set(Told.names) == {"prefill", "decode"}
