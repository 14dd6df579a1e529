"""Which adapter a recogniser gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from textpro_stream.errors import WeightsError
from textpro_stream.lora import add_lora, fingerprint, lora_tensors, save_lora
from textpro_stream.whisper.model import Whisper
from textpro_stream.whisper.weights import load_weights

CPU = torch.device("cpu")
SIZE = 0.3  # of each number of the adapter: its product adds 2 * 0.3 ** 2 to each weight


def adapter(model: Whisper, path: Path, base: str) -> Path:
    add_lora(model.encoder, 2)
    tensors = {f"encoder.{n}": t for n, t in lora_tensors(model.encoder).items()}
    tensors = {name: torch.full_like(tensor, SIZE) for name, tensor in tensors.items()}
    save_lora(path, tensors, scale=1.0, base=base)
    return path


def test_a_file_is_merged_and_quantised_with_the_rest(random_folder: Path, tmp_path: Path) -> None:
    plain = load_weights(random_folder, "float32", CPU)
    base = fingerprint(plain.encoder.conv1.weight)
    path = adapter(load_weights(random_folder, "float32", CPU), tmp_path / "a.safetensors", base)
    adapted = load_weights(random_folder, "float32", CPU, str(path))
    first, before = adapted.encoder.blocks[0], plain.encoder.blocks[0]
    torch.testing.assert_close(first.qkv.weight, before.qkv.weight + 2 * SIZE**2, atol=1e-3, rtol=0)
    torch.testing.assert_close(adapted.decoder.cross_kv.weight, plain.decoder.cross_kv.weight)
    rows = torch.randn(1, 20, plain.dims.d_model, generator=torch.Generator().manual_seed(0))
    small = load_weights(random_folder, "int8", CPU, str(path)).encoder(rows).states
    far = (small - plain.encoder(rows).states).abs().mean()
    assert (small - adapted.encoder(rows).states).abs().mean() < far / 5


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_whole_clips_are_encoded_without_it(
    random_folder: Path, tmp_path: Path, dtype: str
) -> None:
    plain = load_weights(random_folder, "float32", CPU)
    base = fingerprint(plain.encoder.conv1.weight)
    path = adapter(load_weights(random_folder, "float32", CPU), tmp_path / "a.safetensors", base)
    plain, adapted = (load_weights(random_folder, dtype, CPU, name) for name in ("", str(path)))
    rows = torch.randn(1, 20, plain.dims.d_model, generator=torch.Generator().manual_seed(0))
    wanted = plain.encoder(rows).states
    assert torch.equal(adapted.whole_encoder(rows).states, wanted)
    assert not torch.equal(adapted.encoder(rows).states, wanted)


def test_half_precision_knows_its_adapter_too(random_folder: Path, tmp_path: Path) -> None:
    plain = load_weights(random_folder, "float32", CPU)
    base = fingerprint(plain.encoder.conv1.weight)
    path = adapter(load_weights(random_folder, "float32", CPU), tmp_path / "a.safetensors", base)
    adapted = load_weights(random_folder, "bfloat16", CPU, str(path))
    assert adapted.encoder.blocks[0].qkv.weight.dtype == torch.bfloat16


def test_that_of_another_model_is_refused(random_folder: Path, tmp_path: Path) -> None:
    path = adapter(load_weights(random_folder, "float32", CPU), tmp_path / "a.safetensors", "other")
    with pytest.raises(WeightsError, match=r"made for other weights than whisper\.model"):
        load_weights(random_folder, "float32", CPU, str(path))


def test_a_model_for_which_none_ships_stays_as_it_is(random_folder: Path) -> None:
    plain, auto = (load_weights(random_folder, "float32", CPU, name) for name in ("", "auto"))
    for (name, a), (_, b) in zip(plain.named_parameters(), auto.named_parameters(), strict=True):
        assert torch.equal(a, b), name
