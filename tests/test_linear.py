from __future__ import annotations

import pytest
import torch

from textpro_stream.linear import Vocabulary, linear


def test_int8_is_close_to_float() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(96, 64), torch.randn(96), torch.randn(5, 64)
    exact = linear(weight, bias)(x)
    near = linear(weight, bias, int8=True)(x)
    assert torch.equal(exact, x @ weight.T + bias)
    error = (near - exact).norm() / exact.norm()
    assert 0 < error < 0.02


def test_int8_scales_each_row_by_itself() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(4, 64), torch.randn(3, 64)
    weight[0] *= 1e-4  # would vanish under one scale for all
    weight[1] = 0
    near = linear(weight, None, int8=True)(x)
    exact = x @ weight.T
    assert float((near[:, 0] - exact[:, 0]).norm() / exact[:, 0].norm()) < 0.05
    assert torch.equal(near[:, 1], torch.zeros(3))


def test_the_best_words_are_exact_in_an_int8_vocabulary() -> None:
    torch.manual_seed(0)
    embedding, hidden = torch.randn(500, 64), torch.randn(20, 64)
    exact = hidden @ embedding.T
    near = Vocabulary(embedding, int8=True)(hidden)
    assert torch.equal(near.argmax(-1), exact.argmax(-1))
    torch.testing.assert_close(near.amax(-1), exact.amax(-1))
    torch.testing.assert_close(near.logsumexp(-1), exact.logsumexp(-1), rtol=0, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("int8", [False, True])
def test_a_vocabulary_answers_in_float32(dtype: torch.dtype, int8: bool) -> None:
    torch.manual_seed(0)
    embedding, hidden = torch.randn(100, 64), torch.randn(2, 64)
    found = Vocabulary(embedding.to(dtype), int8=int8)(hidden.to(dtype))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, hidden @ embedding.T, rtol=0, atol=0.6)
