"""Int8 products and the rotation in front of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from textpro_stream.linear import Int8Linear, Vocabulary, linear
from textpro_stream.llm.rotation import Rotation

RANDOM = torch.Generator().manual_seed(1)


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("n", [1, 2, 17])
def test_int8_is_within_two_percent(n: int) -> None:
    weight = torch.randn(40, 96, generator=RANDOM)
    bias = torch.randn(40, generator=RANDOM)
    x = torch.randn(n, 96, generator=RANDOM)
    assert relative_error(Int8Linear(linear(weight, bias))(x), F.linear(x, weight, bias)) < 0.02


def test_a_huge_row_does_not_drown_its_neighbours() -> None:
    weight = torch.randn(40, 96, generator=RANDOM)
    x = torch.randn(5, 96, generator=RANDOM)
    x[0] *= 1000
    exact = F.linear(x, weight)
    assert relative_error(Int8Linear(linear(weight))(x)[1:], exact[1:]) < 0.02


def test_rows_of_zeros_stay_zeros() -> None:
    weight = torch.randn(40, 96, generator=RANDOM)
    assert Int8Linear(linear(weight))(torch.zeros(3, 96)).abs().max() == 0


def test_the_vocabularys_winner_is_exact() -> None:
    weight = torch.randn(500, 32, generator=RANDOM)
    hidden = torch.randn(32, generator=RANDOM)
    rough, exact = Vocabulary(weight, int8=True)(hidden[None])[0], weight @ hidden
    assert int(rough.argmax()) == int(exact.argmax())
    torch.testing.assert_close(rough.max(), exact.max())
    assert relative_error(rough, exact) < 0.02


@pytest.mark.parametrize("width", [576, 2048, 96, 33])
def test_turning_twice_changes_nothing_and_lengths_stay(width: int) -> None:
    rotation = Rotation(width)
    x = torch.randn(7, width, generator=RANDOM)
    torch.testing.assert_close(rotation.rows(rotation.rows(x)), x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rotation.rows(x).norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(rotation.columns(x.T), rotation.rows(x).T, atol=1e-5, rtol=1e-5)


def test_an_outlier_is_spread() -> None:
    x = torch.randn(1, 576, generator=RANDOM)
    x[0, 5] = 40.0
    assert Rotation(576).rows(x).abs().max() < 10.0
