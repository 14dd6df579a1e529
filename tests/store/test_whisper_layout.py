from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperProcessor

from textpro_stream.errors import WeightsError
from textpro_stream.store.check import check_folder
from textpro_stream.store.whisper_layout import (
    byte_alphabet,
    convert_whisper,
    merges_of,
    read_ranks,
    special_tokens,
)


def byte_order() -> list[int]:
    """GPT-2's vocabulary starts with the printable bytes, then the others."""
    letters = byte_alphabet()
    return sorted(range(256), key=lambda byte: (ord(letters[byte]) >= 0x100, byte))


def small_table() -> dict[bytes, int]:
    """All bytes, then tokens in an order in which each joins two earlier ones."""
    tokens = [bytes([byte]) for byte in byte_order()]
    tokens += [b" t", b"he", b" the", b"in", b"ing", b"er", b"\xc3\xa9", b"12", b"\n\n"]
    return {token: rank for rank, token in enumerate(tokens)}


def write_table(path: Path, table: dict[bytes, int]) -> Path:
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in table.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def openai_name(key: str) -> str:
    """The test's own way back, word by word."""
    key = key.removeprefix("model.")
    side, rest = key.split(".", 1)
    words = {
        "layers": "blocks",
        "self_attn": "attn",
        "encoder_attn": "cross_attn",
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "out_proj": "out",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
        "self_attn_layer_norm": "attn_ln",
        "encoder_attn_layer_norm": "cross_attn_ln",
        "final_layer_norm": "mlp_ln",
        "layer_norm": "ln_post" if side == "encoder" else "ln",
        "embed_tokens": "token_embedding",
    }
    if rest == "embed_positions.weight":
        return f"{side}.positional_embedding"
    return ".".join([side, *(words.get(word, word) for word in rest.split("."))])


@pytest.fixture(scope="module")
def original() -> WhisperForConditionalGeneration:
    torch.manual_seed(7)
    n_vocab = len(small_table()) + len(special_tokens()) + 1501
    config = WhisperConfig(
        vocab_size=n_vocab,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        pad_token_id=n_vocab - 1,
        bos_token_id=n_vocab - 1,
        eos_token_id=n_vocab - 1,
        decoder_start_token_id=n_vocab - 1,
    )
    return WhisperForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def checkpoint(original, tmp_path_factory) -> Path:
    config = original.config
    state = {
        openai_name(key): value.half()
        for key, value in original.state_dict().items()
        if key != "proj_out.weight"
    }
    dims = {
        "n_mels": 80,
        "n_vocab": config.vocab_size,
        "n_audio_ctx": 1500,
        "n_audio_state": 32,
        "n_audio_head": 4,
        "n_audio_layer": 2,
        "n_text_ctx": 448,
        "n_text_state": 32,
        "n_text_head": 4,
        "n_text_layer": 2,
    }
    path = tmp_path_factory.mktemp("openai") / "toy.en.pt"
    torch.save({"dims": dims, "model_state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("toy.en")
    table = write_table(checkpoint.parent / "gpt2.tiktoken", small_table())
    convert_whisper(checkpoint, table, folder, name="tiny.en")
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_names_follow_openai(original) -> None:
    assert openai_name("model.encoder.layers.1.self_attn.q_proj.weight") == (
        "encoder.blocks.1.attn.query.weight"
    )


def test_transformers_loads_the_folder_and_computes_the_same(original, folder) -> None:
    check_folder(folder, "whisper")
    loaded, report = WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    torch.manual_seed(0)
    mel, tokens = torch.randn(1, 80, 3000), torch.tensor([[5, 300, 7]])
    with torch.no_grad():
        expected = original(input_features=mel, decoder_input_ids=tokens).logits
        found = loaded.eval()(input_features=mel, decoder_input_ids=tokens).logits
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-2)  # stored as float16


def test_the_configs_say_what_generation_needs(folder) -> None:
    end = len(small_table())
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    assert config["dtype"] == "float16"
    assert (config["eos_token_id"], config["decoder_start_token_id"]) == (end, end + 1)
    assert generation["no_timestamps_token_id"] == end + 106
    assert generation["prev_sot_token_id"] == end + 104
    assert generation["begin_suppress_tokens"] == [220, end]
    assert generation["alignment_heads"][0] == [1, 0]
    assert {end + 1, *range(end + 101, end + 106)} <= set(generation["suppress_tokens"])
    assert end + 106 not in generation["suppress_tokens"]


def test_the_processor_reads_the_folder(folder) -> None:
    processor = WhisperProcessor.from_pretrained(folder)
    end = len(small_table())
    tokenizer = processor.tokenizer
    assert len(tokenizer) == end + 107 + 1501
    names = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|notimestamps|>", "<|30.00|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [
        end, end + 1, end + 2, end + 106, end + 107 + 1500,
    ]  # fmt: skip
    ids = tokenizer(" the rings").input_ids
    assert ids[:2] == [end + 1, end + 106]
    assert ids[-1] == end
    assert tokenizer.decode(ids, skip_special_tokens=True) == " the rings"


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=30))
def test_text_survives_the_tokenizer(tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_token_of_a_table_is_found_again_from_its_merges(data) -> None:
    alphabet = [b"a", b"b", b"c"]
    tokens = list(alphabet)
    for _ in range(data.draw(st.integers(0, 8))):
        left, right = data.draw(st.sampled_from(tokens)), data.draw(st.sampled_from(tokens))
        if left + right not in tokens:
            tokens.append(left + right)
    table = {token: rank for rank, token in enumerate(tokens)}
    try:
        merges = merges_of(table)
    except WeightsError:
        return  # a pair that earlier merges would have torn apart: no trainer makes such a table
    for rank, token in enumerate(tokens[3:]):
        left, right = merges[rank]
        assert left + right == token
        assert max(table[left], table[right]) < table[token]


def test_a_table_with_gaps_is_refused(tmp_path) -> None:
    table = {b"a": 0, b"b": 2}
    with pytest.raises(WeightsError, match="gaps"):
        read_ranks(write_table(tmp_path / "t.tiktoken", table))


def test_a_table_of_another_size_is_refused(checkpoint, tmp_path) -> None:
    table = small_table()
    table[b" the "] = len(table)
    with pytest.raises(WeightsError, match="only the English-only Whisper models"):
        convert_whisper(
            checkpoint, write_table(tmp_path / "t.tiktoken", table), tmp_path, name="tiny.en"
        )


class Evil:
    def __reduce__(self):  # what a pickle can do to its reader
        return (Path.touch, (Path("evil"),))


@pytest.mark.parametrize("content", ["text", "pickle", "other"])
def test_a_file_that_is_no_checkpoint_is_refused_and_runs_nothing(
    tmp_path, monkeypatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pt"
    if content == "text":
        path.write_text("hello")
    else:
        torch.save({"dims": Evil()} if content == "pickle" else {"weights": 1}, path)
    table = write_table(tmp_path / "t.tiktoken", small_table())
    with pytest.raises(WeightsError, match="not a Whisper checkpoint"):
        convert_whisper(path, table, tmp_path, name="tiny.en")
    assert not (tmp_path / "evil").exists()
