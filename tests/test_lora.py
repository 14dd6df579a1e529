"""Adapters: what was trained beside a product is what is merged into it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from textpro_stream.errors import WeightsError
from textpro_stream.lora import Adapter, LoraLinear, add_lora, lora_tensors, save_lora


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)).requires_grad_(False)


def trained(scale: float = 0.5) -> nn.Sequential:
    """Adapters that have learnt something."""
    module = network()
    add_lora(module, 2, scale=scale)
    with torch.no_grad():
        for name, child in module.named_modules():
            if isinstance(child, LoraLinear):
                child.lora_b.normal_(generator=torch.Generator().manual_seed(len(name)))
    return module


def test_untrained_adapters_change_nothing_and_are_all_that_learns() -> None:
    module, x = network(), torch.randn(3, 8)
    expected = module(x)
    add_lora(module, 2)
    torch.testing.assert_close(module(x), expected)
    learning = {name for name, p in module.named_parameters() if p.requires_grad}
    assert learning == {"0.lora_a", "0.lora_b", "2.lora_a", "2.lora_b"}


def test_merged_weights_say_what_was_trained(tmp_path: Path) -> None:
    module, x = trained(), torch.randn(3, 8)
    save_lora(tmp_path / "a.safetensors", lora_tensors(module), scale=0.5, base="those")
    adapter = Adapter.read(tmp_path / "a.safetensors")
    assert adapter.base == "those"
    plain = network()
    adapter.merge(plain)
    torch.testing.assert_close(plain(x), module(x), rtol=0, atol=5e-3)  # float16 on disk
    assert not torch.allclose(plain(x), network()(x), atol=0.05)


def test_only_the_wanted_products_learn() -> None:
    module = network()
    add_lora(module, 2, wanted=lambda name: name == "2")
    assert set(lora_tensors(module)) == {"2.lora_a", "2.lora_b"}


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    save_lora(tmp_path / "a.safetensors", lora_tensors(trained()), scale=0.5, base="those")
    other = nn.Sequential(nn.Linear(8, 17), nn.GELU(), nn.Linear(17, 4))
    with pytest.raises(WeightsError, match="0 does not fit this model"):
        Adapter.read(tmp_path / "a.safetensors").merge(other)


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="not an adapter"):
        Adapter.read(tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="no such adapter"):
        Adapter.read(tmp_path / "none.safetensors")
