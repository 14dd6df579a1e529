from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_whisper import (
    AudioChunk,
    committed,
    edit_json,
    features,
    melody,
    random_model,
    save,
    text_of,
    tokenizer,
)
from torch import Tensor

from textpro_stream.config import WhisperOptions
from textpro_stream.errors import TextproError, WeightsError
from textpro_stream.whisper import WhisperPro
from textpro_stream.whisper.weights import load_weights

CPU = torch.device("cpu")

Edit = Callable[[Path], object]


@pytest.fixture
def folder(listening_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(listening_folder, tmp_path / "model"))


def hear(folder: Path, *, dtype: str = "float32") -> str:
    """What a folder makes of a tune."""
    model = WhisperPro.load(folder, WhisperOptions(dtype=dtype), CPU)  # type: ignore[arg-type]  # parametrised
    recognizer = model.offline()
    recognizer.push(AudioChunk(melody(3, 0), 0))
    return text_of(committed(recognizer.finish()))


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Change the tensors of a folder."""
    file = folder / "model.safetensors"
    tensors = {key: tensor.clone() for key, tensor in load_file(file).items()}
    file.unlink()
    save_file(change(tensors), file, metadata={"format": "pt"})


def without(key: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {k: v for k, v in tensors.items() if k != key}


def test_sizes_come_from_the_config(random_folder: Path) -> None:
    dims = load_weights(random_folder, "float32", CPU).dims
    assert (dims.n_mels, dims.n_positions, dims.n_context) == (80, 1500, 448)
    assert (dims.d_model, dims.n_heads, dims.d_head, dims.prosody_layer) == (64, 2, 32, 1)
    assert dims.n_vocabulary == tokenizer().get_vocab_size()


@pytest.mark.parametrize("prefix", ["whisper.model.", "", "module.whisper_pro.model."])
def test_whisperpro_is_a_whisper_under_a_prefix_with_parts_to_ignore(
    folder: Path, listening_folder: Path, prefix: str
) -> None:
    def released(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        moved = {prefix + key.removeprefix("model."): v for key, v in tensors.items()}
        moved["reconstruction.proj_in.weight"] = torch.randn(8, 64)
        moved["reconstruction.layers.0.self_attn.q_proj.weight"] = torch.randn(8, 8)
        moved["prosody_loss.log_temperature"] = torch.zeros(1)
        return moved

    rewrite(folder, released)
    assert hear(folder) == hear(listening_folder) != ""


def test_weights_may_lie_in_several_files(folder: Path, listening_folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    for i, part in enumerate((names[::2], names[1::2]), 1):
        shard = {name: tensors[name].clone() for name in part}
        save_file(shard, folder / f"model-0000{i}-of-00002.safetensors")
    assert hear(folder) == hear(listening_folder)


def test_half_precision_files_are_widened(folder: Path) -> None:
    rewrite(folder, lambda tensors: {k: v.half() for k, v in tensors.items()})
    assert load_weights(folder, "float32", CPU).decoder.embedding.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_a_listener_hears_in_every_precision(listening_folder: Path, dtype: str) -> None:
    exact, near = hear(listening_folder).split(), hear(listening_folder, dtype=dtype).split()
    assert len(near) > 5
    assert near[0] == exact[0]


def test_alignment_heads_are_the_upper_half_where_none_are_named(folder: Path) -> None:
    assert load_weights(folder, "float32", CPU).decoder.alignment_heads == ((0, 0), (1, 0))
    edit_json(folder / "generation_config.json", alignment_heads=None)
    assert load_weights(folder, "float32", CPU).decoder.alignment_heads == ((1, 0), (1, 1))


def test_a_multilingual_model_is_told_language_and_task(multilingual_folder: Path) -> None:
    model = WhisperPro.load(multilingual_folder, WhisperOptions(), CPU)
    names = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    table = tokenizer(multilingual=True)
    assert model.tokens.prompt == [table.token_to_id(name) for name in names]
    assert hear(multilingual_folder)


def test_other_sizes_load_too(tmp_path: Path) -> None:
    model = random_model()
    model.config.decoder_layers = 1  # as turbo: many layers listen, few speak
    model.model.decoder.layers = model.model.decoder.layers[:1]
    model.generation_config.alignment_heads = [[0, 1]]
    folder = save(model, tmp_path)
    dims = load_weights(folder, "float32", CPU).dims
    assert (dims.n_encoder_layers, dims.n_decoder_layers) == (2, 1)
    assert hear(folder)


Q_PROJ = "model.decoder.layers.1.encoder_attn.q_proj.weight"

DAMAGE: dict[str, tuple[Edit, str]] = {
    "missing key": (lambda f: rewrite(f, without(Q_PROJ)), Q_PROJ),
    "wrong width": (
        lambda f: rewrite(f, lambda t: {**t, Q_PROJ: torch.zeros(64, 32)}),
        r"q_proj\.weight has shape \(64, 32\), config\.json asks for \(64, 64\)",
    ),
    "wider config": (lambda f: edit_json(f / "config.json", d_model=128), "asks for"),
    "pickle only": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        "no \\*.safetensors",
    ),
    "cut short": (
        lambda f: (f / "model.safetensors").write_bytes(
            (f / "model.safetensors").read_bytes()[:5000]
        ),
        "model.safetensors",
    ),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("<html>"), "is not JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "no JSON object"),
    "config of a Llama": (
        lambda f: (f / "config.json").write_text(
            json.dumps({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2})
        ),
        "not a Whisper model",
    ),
    "config without a width": (
        lambda f: edit_json(f / "config.json", encoder_ffn_dim=None),
        "encoder_ffn_dim",
    ),
    "config of text": (lambda f: edit_json(f / "config.json", d_model="wide"), "d_model"),
    "heads that do not divide": (
        lambda f: edit_json(f / "config.json", decoder_attention_heads=3),
        "attention_heads",
    ),
    "another model's tensors": (
        lambda f: rewrite(f, lambda t: {"model.embed_tokens.weight": torch.zeros(4, 4)}),
        "expected one Whisper",
    ),
    "two Whispers": (
        lambda f: rewrite(f, lambda t: {**t, **{"teacher." + k: v.clone() for k, v in t.items()}}),
        "teacher.model",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
    "tokenizer is no JSON": (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json"),
    "another tokenizer": (
        lambda f: (f / "tokenizer.json").write_text(
            (f / "tokenizer.json").read_text().replace("<|startoftranscript|>", "<|im_start|>")
        ),
        "not a Whisper tokenizer",
    ),
    "an alignment head that is not there": (
        lambda f: edit_json(f / "generation_config.json", alignment_heads=[[7, 0]]),
        "alignment_heads",
    ),
    "generation config is no JSON": (
        lambda f: (f / "generation_config.json").write_text("{"),
        "generation_config.json",
    ),
    "a shorter window": (
        lambda f: edit_json(f / "config.json", max_source_positions=750),
        "max_source_positions 750, expected 1500",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused_in_one_line(folder: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(WeightsError, match=message) as refused:
        WhisperPro.load(folder, WhisperOptions(), CPU)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_default_suits_the_device(folder: Path) -> None:
    assert hear(folder, dtype="auto") == hear(folder, dtype="int8")
    elsewhere = WhisperPro.load(folder, WhisperOptions(), torch.device("meta"))
    assert elsewhere.model.dtype == torch.float32  # a GPU has no use for int8


def test_int8_is_refused_off_the_cpu(random_folder: Path) -> None:
    with pytest.raises(TextproError, match="int8 runs on the CPU only"):
        WhisperPro.load(random_folder, WhisperOptions(dtype="int8"), torch.device("cuda"))


def test_features_helper_gives_a_whole_window() -> None:
    assert features(melody(1, 0)).shape == (1, 80, 3000)
