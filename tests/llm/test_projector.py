from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from textpro_stream.checkpoint import Checkpoint
from textpro_stream.errors import StageError, WeightsError
from textpro_stream.llm.projector import Projector, find_projector, random_projector

D_MODEL, D_PROSODY = 32, 24


def found_in(tmp_path: Path, **shapes: tuple[int, ...]) -> Projector | None:
    tensors = {name.replace("__", "."): torch.randn(shape) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    return find_projector(Checkpoint(tmp_path), D_MODEL)


def test_it_is_a_gelu_perceptron() -> None:
    projector = random_projector(D_PROSODY, D_MODEL, seed=3)
    w1, b1, w2, b2 = projector.parameters()
    x = torch.randn(5, D_PROSODY)
    expected = torch.nn.functional.gelu(x @ w1.T + b1) @ w2.T + b2
    torch.testing.assert_close(projector(x), expected)
    assert (projector.d_prosody, projector.d_model) == (D_PROSODY, D_MODEL)


def test_a_saved_one_comes_back(tmp_path: Path) -> None:
    projector = random_projector(D_PROSODY, D_MODEL, seed=3)
    projector.save(tmp_path / "p.safetensors", {"fusion": "interleave"})
    checkpoint = Checkpoint(tmp_path / "p.safetensors")
    loaded = find_projector(checkpoint, D_MODEL)
    assert loaded is not None
    x = torch.randn(2, D_PROSODY)
    torch.testing.assert_close(loaded(x), projector(x))
    assert checkpoint.metadata["fusion"] == "interleave"


def test_a_seed_repeats_itself() -> None:
    x = torch.randn(2, D_PROSODY)
    one, two, other = (random_projector(D_PROSODY, D_MODEL, seed) for seed in (1, 1, 2))
    assert torch.equal(one(x), two(x))
    assert not torch.equal(one(x), other(x))


@pytest.mark.parametrize("prefix", ["", "llm__"])
def test_it_is_found_by_shape_beside_an_llm(tmp_path: Path, prefix: str) -> None:
    projector = found_in(
        tmp_path,
        **{
            f"{prefix}model__embed_tokens__weight": (100, D_MODEL),
            f"{prefix}model__layers__0__self_attn__q_proj__weight": (D_MODEL, D_MODEL),
            f"{prefix}model__layers__0__self_attn__o_proj__weight": (D_MODEL, D_MODEL),
            f"{prefix}model__norm__weight": (D_MODEL,),
            f"{prefix}lm_head__weight": (100, D_MODEL),
        },
        adapter__linear_1__weight=(D_MODEL, D_PROSODY),
        adapter__linear_1__bias=(D_MODEL,),
        adapter__linear_2__weight=(D_MODEL, D_MODEL),
        adapter__linear_2__bias=(D_MODEL,),
    )
    assert projector is not None
    assert projector.d_prosody == D_PROSODY
    assert projector.up.bias is not None


def test_biases_may_be_missing_and_widths_equal(tmp_path: Path) -> None:
    projector = found_in(tmp_path, p__10__weight=(D_MODEL, D_MODEL), p__2__weight=(D_MODEL,) * 2)
    assert projector is not None
    assert projector.up.bias is None
    checkpoint = Checkpoint(tmp_path)
    assert torch.equal(projector.up.weight, checkpoint.read("p.2.weight", (D_MODEL, D_MODEL)))


def test_an_llm_alone_has_none(tmp_path: Path) -> None:
    shapes = {"model__embed_tokens__weight": (9, D_MODEL), "lm_head__weight": (9, D_MODEL)}
    assert found_in(tmp_path, **shapes) is None


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({"a__weight": (D_MODEL, D_PROSODY)}, "no single pair"),
        ({"a__weight": (D_MODEL, 24), "b__weight": (D_MODEL, 20), "c__weight": (D_MODEL, D_MODEL)},
         "no single pair.*a.weight"),
        ({"p__a__weight": (D_MODEL, 24), "p__b__weight": (D_MODEL, D_MODEL),
          "p__norm__weight": (D_MODEL,)}, "p.norm.weight stands beside"),
        ({"a__weight": (D_MODEL, D_MODEL)} | {f"{x}__weight": (D_MODEL, D_MODEL) for x in "bc"},
         "no single pair"),
    ],
)  # fmt: skip
def test_any_doubt_is_refused_in_one_line(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], told: str
) -> None:
    with pytest.raises(WeightsError, match=told) as caught:
        found_in(tmp_path, **shapes)
    assert "\n" not in str(caught.value)


def test_states_of_another_whisper_are_refused_in_one_line() -> None:
    with pytest.raises(StageError, match="takes states of width 24, Whisper's are 8 wide"):
        random_projector(D_PROSODY, D_MODEL)(torch.zeros(1, 8))
