from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from textpro_stream.config import LlmOptions
from textpro_stream.errors import StageError
from textpro_stream.llm.sampling import Sampler, nucleus, penalise

CPU = torch.device("cpu")


def random_logits(seed: int, n: int = 50) -> torch.Tensor:
    return 4 * torch.randn(n, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 999), said=st.lists(st.integers(0, 49), min_size=1, max_size=30),
       penalty=st.floats(0.5, 3.0))  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_the_penalty_is_that_of_transformers(seed: int, said: list[int], penalty: float) -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = random_logits(seed)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([said]), logits[None].clone())
    torch.testing.assert_close(penalise(logits, said, penalty), theirs[0])


@given(seed=st.integers(0, 999), top_p=st.floats(0.05, 0.99))
@settings(max_examples=50, deadline=None)
def test_the_nucleus_is_that_of_transformers(seed: int, top_p: float) -> None:
    from transformers import TopPLogitsWarper

    logits = random_logits(seed)
    theirs = TopPLogitsWarper(top_p)(torch.zeros(1, 1, dtype=torch.long), logits[None].clone())
    torch.testing.assert_close(nucleus(logits, top_p), theirs[0])


def test_greedy_takes_the_best_and_leaves_the_logits_alone() -> None:
    logits = torch.tensor([1.0, 5.0, 4.9])
    options = LlmOptions(repetition_penalty=1.1)
    assert Sampler(options, 0, CPU).choose(logits, []) == 1
    assert Sampler(options, 0, CPU).choose(logits, [1, 1]) == 2  # 5.0 / 1.1 < 4.9
    assert logits.tolist() == pytest.approx([1.0, 5.0, 4.9])


def test_a_seed_repeats_itself_whatever_others_draw() -> None:
    options = LlmOptions(temperature=0.9, top_p=0.95, repetition_penalty=1.0)
    logits = random_logits(3)
    first, second = Sampler(options, 11, CPU), Sampler(options, 11, CPU)
    drawn = [first.choose(logits, []) for _ in range(20)]
    torch.rand(7)
    assert [second.choose(logits, []) for _ in range(20)] == drawn
    other = Sampler(options, 12, CPU)
    assert [other.choose(logits, []) for _ in range(20)] != drawn
    assert len(set(drawn)) > 1


def test_draws_follow_the_tempered_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -30.0])
    options = replace(LlmOptions(), temperature=2.0, repetition_penalty=1.0)
    sampler = Sampler(options, 0, CPU)
    counts = torch.bincount(torch.tensor([sampler.choose(logits, []) for _ in range(3000)]))
    torch.testing.assert_close(
        counts / 3000, (logits / 2).softmax(-1)[: len(counts)], atol=0.03, rtol=0
    )


class Unread(TorchDispatchMode):
    """Refuses to wait for a single number of a tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.__name__.split(".")[0] not in ("_local_scalar_dense", "is_nonzero"), func
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_token_and_its_logit_are_read_together(temperature: float) -> None:
    sampler = Sampler(LlmOptions(temperature=temperature, top_p=0.9), 0, CPU)
    with Unread():
        assert 0 <= sampler.choose(random_logits(3), [4, 5]) < 50


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_told(temperature: float, value: float) -> None:
    logits = random_logits(3)
    logits[7] = value
    with pytest.raises(StageError, match="no number") as caught:
        Sampler(LlmOptions(temperature=temperature), 0, CPU).choose(logits, [])
    assert "\n" not in str(caught.value)
