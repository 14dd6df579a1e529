from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from textpro_stream.errors import WeightsError
from textpro_stream.store.check import check_folder
from textpro_stream.store.llama_layout import convert_llama
from textpro_stream.store.whisper_layout import byte_alphabet

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
N_HEADS, N_KV_HEADS, D_HEAD = 4, 2, 8


def vocabulary() -> tuple[list[str], list[str]]:
    merges = ["h e", "l l", "Ġ w", "1 2"]  # no "12" may come out: digits stand alone
    return [*SPECIALS, *byte_alphabet(), *(m.replace(" ", "") for m in merges)], merges


@pytest.fixture(scope="module")
def original() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(vocabulary()[0]),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_KV_HEADS,
        max_position_embeddings=128,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def interleaved(rows: np.ndarray, n_heads: int) -> np.ndarray:
    """llama.cpp's row order, spelled out: row i of a head's first half, then i of its second."""
    order = []
    for head in range(n_heads):
        for i in range(D_HEAD // 2):
            order += [head * D_HEAD + i, head * D_HEAD + D_HEAD // 2 + i]
    return rows[order]


def write_gguf(
    path: Path,
    model: LlamaForCausalLM,
    *,
    quantised: bool = False,
    pre: str = "smollm",
    architecture: str = "llama",
    extra: dict[str, np.ndarray] | None = None,
) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_rope_dimension_count(D_HEAD)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    tokens, merges = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIALS else 1 for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
    }
    for i in range(2):
        for theirs, ours in {
            "attn_norm": "input_layernorm",
            "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
            "ffn_gate": "mlp.gate_proj",
            "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj",
        }.items():
            names[f"model.layers.{i}.{ours}.weight"] = f"blk.{i}.{theirs}.weight"
    for key, value in model.state_dict().items():
        if key == "lm_head.weight":
            continue
        rows = value.numpy()
        if "q_proj" in key:
            rows = interleaved(rows, N_HEADS)
        if "k_proj" in key:
            rows = interleaved(rows, N_KV_HEADS)
        if quantised and rows.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(names[key], gguf.quantize(rows, kind), raw_dtype=kind)
        else:
            writer.add_tensor(names[key], rows)
    for name, rows in (extra or {}).items():
        writer.add_tensor(name, rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy-llm")
    convert_llama(write_gguf(tmp_path_factory.mktemp("gguf") / "toy.gguf", original), folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


def logits(model: LlamaForCausalLM, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits


def test_transformers_loads_the_folder_and_computes_the_same(original, folder) -> None:
    check_folder(folder, "llm")
    loaded, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    ids = [1, 40, 3, 250, 99, 17]
    torch.testing.assert_close(logits(loaded, ids), logits(original, ids), atol=1e-3, rtol=1e-2)


def test_quantised_rows_are_dequantised(original, tmp_path) -> None:
    convert_llama(write_gguf(tmp_path / "toy.gguf", original, quantised=True), tmp_path)
    found = load_file(tmp_path / "model.safetensors")
    for key, value in original.state_dict().items():
        if key == "lm_head.weight":
            assert key not in found
            continue
        assert found[key].dtype == np.float16
        step = value.abs().max().item() / 127  # of a Q8_0 block, at most
        np.testing.assert_allclose(found[key], value.numpy(), atol=0.51 * step + 1e-3)


def test_an_untied_head_is_kept(original, tmp_path) -> None:
    head = np.full((len(vocabulary()[0]), 32), 0.5, dtype=np.float32)
    convert_llama(
        write_gguf(tmp_path / "toy.gguf", original, extra={"output.weight": head}), tmp_path
    )
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert loaded.lm_head.weight.flatten()[0].item() == 0.5
    assert not loaded.config.tie_word_embeddings


def test_the_tokenizer_keeps_digits_apart_and_knows_the_chat(tokenizer) -> None:
    assert tokenizer.tokenize("hello world 123") == [
        "he", "ll", "o", "Ġw", "o", "r", "l", "d", "Ġ", "1", "2", "3",
    ]  # fmt: skip
    assert tokenizer("<|im_end|>").input_ids == [2]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat == "<|im_start|>user\nhi<|im_end|>\n"


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=30))
def test_text_survives_the_tokenizer(tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "qwen2"}, "general.architecture is 'qwen2', expected 'llama'"),
        ({"pre": "llama-bpe"}, "tokenizer.ggml.pre is 'llama-bpe', expected 'smollm'"),
        (
            {"extra": {"blk.0.ffn_gate_inp.weight": np.zeros((4, 32), np.float32)}},
            "ffn_gate_inp.* is not part of a plain Llama",
        ),
    ],
)
def test_what_is_not_known_is_refused(original, tmp_path, change, words: str) -> None:
    source = write_gguf(tmp_path / "toy.gguf", original, **change)
    with pytest.raises(WeightsError, match=words) as caught:
        convert_llama(source, tmp_path)
    assert "Hugging Face folder" in str(caught.value)


def test_a_file_that_is_no_gguf_is_refused(tmp_path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"<html>captive portal</html>" * 10)
    with pytest.raises(WeightsError, match="not a GGUF file"):
        convert_llama(path, tmp_path)
