from __future__ import annotations

import pytest
import torch
from torch import nn

from textpro_stream.linear import Int8Linear, Vocabulary, linear, quantise


def test_int8_is_close_to_float() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(96, 64), torch.randn(96), torch.randn(5, 64)
    exact = linear(weight, bias)(x)
    near = Int8Linear(linear(weight, bias))(x)
    assert torch.equal(exact, x @ weight.T + bias)
    error = (near - exact).norm() / exact.norm()
    assert 0 < error < 0.02


def test_int8_scales_each_row_by_itself() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(4, 64), torch.randn(3, 64)
    weight[0] *= 1e-4  # would vanish under one scale for all
    weight[1] = 0
    near = Int8Linear(linear(weight, None))(x)
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


def test_quantising_swaps_the_products_below_a_module_and_leaves_those_refused() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(64, 96), nn.Sequential(nn.ReLU(), nn.Linear(96, 8)))
    x = torch.randn(2, 5, 64)
    exact = block(x)
    quantise(block, lambda name: name != "1.1")
    assert isinstance(block[0], Int8Linear)
    assert isinstance(block[1][1], nn.Linear)
    error = (block(x) - exact).norm() / exact.norm()
    assert 0 < error < 0.03


def test_a_batch_of_rows_is_its_rows() -> None:
    torch.manual_seed(0)
    product, vocabulary = Int8Linear(nn.Linear(64, 96)), Vocabulary(torch.randn(50, 64), int8=True)
    x = torch.randn(3, 4, 64)
    for layer in (product, vocabulary):
        torch.testing.assert_close(layer(x), layer(x.flatten(0, 1)).view(3, 4, -1))
