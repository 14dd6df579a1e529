"""Likelihoods and divergence over a tiny model, against its own logits computed otherwise."""

from __future__ import annotations

import pytest
import torch
from tiny_llm import write_model

from textpro_stream.config import LlmOptions
from textpro_stream.evaluate.answers import Judge, as_reply
from textpro_stream.llm import LanguageModel

N = 6  # tokens of a reply


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("llm")
    write_model(folder, "Llama")
    return LanguageModel.load(folder, LlmOptions(dtype="float32"), torch.device("cpu"))


def logs_after(model: LanguageModel, rows: list[int]) -> torch.Tensor:
    """Of the next token, all rows in one pass."""
    with torch.inference_mode():
        session = model.backbone.open(len(rows))
        session.prefill(model.rows(rows))
        return session.logits().log_softmax(-1)


def test_an_option_is_written_as_a_reply() -> None:
    assert [as_reply(option) for option in ("a cat", "Why?", "7")] == ["A cat.", "Why?", "7."]


def test_a_score_is_the_mean_log_likelihood_of_a_character(model: LanguageModel) -> None:
    judge = Judge(model, N)
    prompt = judge.prompt(" What can I cook? ")
    options = ["rice", "an egg with rice, tonight"]
    answer = judge.answer(prompt, options, judge.reply(prompt))
    for option, score in zip(options, answer.scores, strict=True):
        reply = as_reply(option)
        ids = model.chat.encode(reply)[0]
        total = sum(
            float(logs_after(model, [*prompt, *ids[:i]])[token]) for i, token in enumerate(ids)
        )
        assert score == pytest.approx(total / len(reply), abs=1e-4)
    assert answer.chosen == max((0, 1), key=answer.scores.__getitem__)


def test_the_prompt_is_that_of_a_conversation_with_these_words(model: LanguageModel) -> None:
    text = model.chat.decode(Judge(model, N).prompt("How long?"))
    assert text.endswith("<|im_start|>user\nHow long?<|im_end|>\n<|im_start|>assistant\n")
    assert text.startswith("<|im_start|>system\n")


def test_the_same_prompt_moves_nothing_and_another_one_does(model: LanguageModel) -> None:
    judge = Judge(model, N)
    prompt, other = judge.prompt("Will it rain?"), judge.prompt("Tell me about the moon.")
    expected = judge.reply(prompt)
    assert 1 <= len(expected.logs) <= N
    same = judge.answer(prompt, ["yes", "no"], expected)
    assert same.kl == pytest.approx(0, abs=1e-5)
    assert (same.first, same.equal) == (1.0, True)
    moved = judge.answer(other, ["yes", "no"], expected)
    assert moved.kl > 0.01
    assert moved.first < 1
    assert moved.equal is False


def test_divergence_is_the_mean_over_the_expected_reply(model: LanguageModel) -> None:
    judge = Judge(model, N)
    prompt, other = judge.prompt("Will it rain?"), judge.prompt("Set a timer.")
    expected = judge.reply(prompt)
    total, same = 0.0, 0
    for i in range(len(expected.logs)):
        begun = list(expected.tokens[:i])
        sure, rough = (logs_after(model, [*rows, *begun]) for rows in (prompt, other))
        total += float((sure.exp() * (sure - rough)).sum())
        same += int(sure.argmax() == rough.argmax())
    answer = judge.answer(other, ["yes", "no"], expected)
    assert answer.kl == pytest.approx(total / len(expected.logs), abs=1e-4)
    assert answer.first == pytest.approx(same / len(expected.logs))
