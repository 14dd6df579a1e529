from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_llm import write_model

from textpro_stream.config import LlmOptions
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.fidelity import compare, read_questions, said, speed
from textpro_stream.llm import LanguageModel


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[LanguageModel]:
    folder = tmp_path_factory.mktemp("llama")
    write_model(folder, "Llama")
    options = (LlmOptions(dtype="float32", max_tokens=10), LlmOptions(dtype="int8", max_tokens=10))
    return [LanguageModel.load(folder, o, torch.device("cpu")) for o in options]


def test_a_model_agrees_with_itself_and_less_with_its_int8(models: list[LanguageModel]) -> None:
    exact, rough = models
    cases = [said(exact, question) for question in ("How long?", "Will it rain tomorrow?")]
    same, other = compare(exact, cases), compare(rough, cases)
    assert same.tokens == other.tokens == sum(len(case.logs) for case in cases)
    assert (same.agreed, same.kl) == (1.0, pytest.approx(0.0, abs=1e-6))
    assert 0.0 < other.kl < 0.5
    assert other.perplexity > 1.0


def test_speed_is_measured_in_positive_numbers(models: list[LanguageModel]) -> None:
    assert all(figure > 0 for figure in speed(models[0]))


def test_prompts_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"question": q}) for q in "abc"))
    assert read_questions(path, limit=2) == ["a", "b"]
    path.write_text('[1]\n{"question": "a"}\n{"text": "b"}')
    with pytest.raises(ConfigError, match="line 1: not a JSON object; line 3: no question"):
        read_questions(path, limit=2)
