from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from caller import Caller
from safetensors.torch import load_file, save_file
from tiny_llm import D_PROSODY, spoken, write_tokenizer

from textpro_stream.config import LlmOptions
from textpro_stream.errors import ConfigError, TextproError, WeightsError
from textpro_stream.llm import LanguageModel
from textpro_stream.llm.fusion import Tone
from textpro_stream.llm.projector import random_projector

CPU = torch.device("cpu")
OPTIONS = LlmOptions(dtype="float32", context=256, max_tokens=8)
Folders = Callable[..., Path]


@pytest.fixture
def llama(folder_of: Folders, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(folder_of("Llama"), tmp_path / "llama"))


@pytest.fixture
def textpro(folder_of: Folders, tmp_path: Path) -> Callable[..., Path]:
    """A folder in the layout of a released TextPro checkpoint, as far as known."""

    def make(prefix: str = "", **settings: Any) -> Path:
        folder = Path(shutil.copytree(folder_of("Qwen2"), tmp_path / f"textpro{prefix}"))
        whole = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        tensors = {prefix + key: tensor for key, tensor in whole.items()}
        projector = random_projector(D_PROSODY, 32, seed=5)
        for name, layer in {"0": projector.up, "2": projector.down}.items():
            tensors[f"prosody_projector.{name}.weight"] = layer.weight
            tensors[f"prosody_projector.{name}.bias"] = layer.bias
        keys = sorted(tensors)
        for n, part in enumerate((keys[::2], keys[1::2]), start=1):
            save_file({k: tensors[k] for k in part}, folder / f"model-0000{n}-of-00002.safetensors")
        (folder / "textpro_config.json").write_text(json.dumps(settings))
        return folder

    return make


def load(folder: Path, **changes: Any) -> LanguageModel:
    return LanguageModel.load(folder, replace(OPTIONS, **changes), CPU, d_prosody=D_PROSODY)


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize(("fusion", "told"), [("auto", "I sound angry"), ("text", "words only")])
def test_without_a_projector_no_rows_of_tone_reach_the_model(
    fusion: str, told: str, llama: Path
) -> None:
    model = load(llama, fusion=fusion)
    assert model.projector is None
    assert told in model.notice
    assert "\n" not in model.notice


@pytest.mark.parametrize("prefix", ["", "llm."])
def test_a_textpro_checkpoint_brings_its_fusion(textpro: Callable[..., Path], prefix: str) -> None:
    folder = textpro(prefix, fusion_type="Interleaving", interleave_ratio="5:1", new_key=1)
    model = load(folder)
    assert (model.fusion.kind, model.fusion.group) == ("interleave", 5)
    assert model.fusion.marker == model.chat.token_id("<|repo_name|>")
    assert model.notice == ""
    caller = Caller(model)
    caller.hear(spoken("How long should I boil an egg?"))
    assert any(isinstance(row, Tone) for row in caller.rows)
    assert "".join(caller.reply())


def test_its_words_may_still_be_read_alone(textpro: Callable[..., Path]) -> None:
    assert load(textpro(fusion="global")).fusion.kind == "global"
    assert load(textpro("llm.", fusion="global"), fusion="text").fusion.kind == "text"


def test_tone_changes_the_logits_and_the_projectors_rows_are_what_enters(
    textpro: Callable[..., Path],
) -> None:
    model = load(textpro(fusion="interleave"))
    spans = spoken("How long should I boil an egg?")
    rows = model.rows([7, Tone(tuple(spans[:2])), 9])
    pooled = torch.cat([span.states for span in spans[:2]]).mean(0)
    expected = random_projector(D_PROSODY, 32, seed=5)(pooled[None])[0]
    torch.testing.assert_close(rows[1], expected)
    torch.testing.assert_close(rows[0], model.rows([7])[0])
    said = []
    for seed in (1, 2):
        caller = Caller(model)
        caller.hear(spoken("How long should I boil an egg?", seed=seed))
        caller.draft()
        said.append(caller.snapshot.logits)
    assert not torch.allclose(said[0], said[1], atol=1e-2)


def test_a_projector_file_brings_its_settings(llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "tone.safetensors"
    random_projector(D_PROSODY, 32).save(path, {"fusion": "global", "group": "4"})
    model = load(llama, projector=str(path))
    assert (model.fusion.kind, model.fusion.group) == ("global", 4)
    random_projector(D_PROSODY, 32).save(path)
    assert load(llama, projector=str(path)).fusion.kind == "interleave"


def test_a_random_projector_says_so(llama: Path) -> None:
    assert "random" in load(llama, projector="random").notice


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda f: edit(f / "config.json", hidden_size=None), "no hidden_size"),
        (lambda f: edit(f / "config.json", intermediate_size=64), r"\(48, 32\).*\(64, 32\)"),
        (lambda f: edit(f / "config.json", num_hidden_layers=3), "no tensor model.layers.2"),
        (lambda f: edit(f / "config.json", tie_word_embeddings=False, vocab_size=9), "9, 32"),
        (lambda f: edit(f / "config.json", model_type="unheard-of"), "cannot load it"),
        (lambda f: (f / "model.safetensors").unlink(), "no .*safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"short"), "damaged"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda f: edit(f / "tokenizer_config.json", chat_template=None), "no chat template"),
    ],
)  # fmt: skip
def test_an_unusable_folder_is_refused_in_one_line(
    llama: Path, damage: Callable[[Path], Any], told: str
) -> None:
    damage(llama)
    with pytest.raises(WeightsError, match=told) as caught:
        Caller(load(llama))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(llama: Path) -> None:
    tensors = load_file(llama / "model.safetensors")
    small = {k: v[:200].clone() if v.shape[0] > 200 else v for k, v in tensors.items()}
    save_file(small, llama / "model.safetensors")
    edit(llama / "config.json", vocab_size=200)
    with pytest.raises(WeightsError, match="do not belong together"):
        load(llama)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fusion": "telepathy"}, "unknown fusion 'telepathy'"),
        ({"prosody_token": "<nowhere>"}, "<nowhere> is not in the tokenizer"),
        ({"prosody_token_id": 3}, "has id .* in the tokenizer, 3 in textpro_config.json"),
        ({"ratio": "5:2"}, "group '5:2'"),
        ({"marker_mode": "beside"}, "marker_mode 'beside'"),
    ],
)  # fmt: skip
def test_a_textpro_checkpoint_that_is_not_understood_is_refused_in_one_line(
    textpro: Callable[..., Path], settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(WeightsError, match=told) as caught:
        load(textpro(**settings))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_the_marker_is_refused(textpro: Callable[..., Path]) -> None:
    folder = textpro()
    write_tokenizer(folder, marker=False)
    with pytest.raises(WeightsError, match=r"repo_name\|> is not in the tokenizer"):
        load(folder)


def test_a_projector_file_needs_a_marker_only_if_it_uses_one(llama: Path, tmp_path: Path) -> None:
    write_tokenizer(llama, marker=False)
    path = tmp_path / "p.safetensors"
    random_projector(D_PROSODY, 32).save(path, {"fusion": "interleave"})
    assert load(llama, projector=str(path)).fusion.marker is None
    random_projector(D_PROSODY, 32).save(path, {"marker_mode": "marker_then_vector"})
    with pytest.raises(WeightsError, match="is not in the tokenizer"):
        load(llama, projector=str(path))


def test_a_textpro_checkpoint_without_projector_is_refused(llama: Path) -> None:
    (llama / "textpro_config.json").write_text("{}")
    with pytest.raises(WeightsError, match="no projector beside the LLM"):
        load(llama)


def test_a_projector_of_another_whisper_is_refused(llama: Path, tmp_path: Path) -> None:
    random_projector(D_PROSODY + 1, 32).save(tmp_path / "p.safetensors")
    with pytest.raises(WeightsError, match=f"width {D_PROSODY + 1}, Whisper's are {D_PROSODY}"):
        load(llama, projector=str(tmp_path / "p.safetensors"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fusion": "interleave"}, "fusion interleave needs a trained projector"),
        ({"projector": "nowhere.safetensors"}, "no such file"),
    ],
)
def test_options_that_need_a_projector_say_so(
    llama: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load(llama, **changes)
    assert "\n" not in str(caught.value)


def test_int8_is_for_models_of_our_own_step(folder_of: Folders) -> None:
    assert load(folder_of("Llama"), dtype="auto").dtype == "int8"
    assert load(folder_of("Qwen3"), dtype="auto").dtype == "float32"
    with pytest.raises(ConfigError, match="int8 is for Llama"):
        load(folder_of("Qwen3"), dtype="int8")


def test_a_model_that_cannot_forget_is_refused(tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    n = write_tokenizer(tmp_path)
    MambaForCausalLM(
        MambaConfig(vocab_size=n, hidden_size=32, num_hidden_layers=1, state_size=4)
    ).save_pretrained(tmp_path)
    with pytest.raises(TextproError, match="cannot be cropped"):
        load(tmp_path)


def test_loading_our_own_step_does_not_import_transformers(folder_of: Folders) -> None:
    import subprocess
    import sys

    code = (
        "import sys, torch; from pathlib import Path; from textpro_stream.config import LlmOptions;"
        "from textpro_stream.contracts import OpenTurn, ReplyOptions;"
        "from textpro_stream.llm import Dialogue, LanguageModel;"
        "from textpro_stream.telemetry.trace import Unobserved;"
        "m = LanguageModel.load(Path(sys.argv[1]), LlmOptions(), torch.device('cpu'));"
        "d = Dialogue(m, m.options, Unobserved()); d.follow(OpenTurn(1, over=True));"
        "assert d.draw(d.reply(1, ReplyOptions())); assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(folder_of("Llama"))], check=True, timeout=60)
