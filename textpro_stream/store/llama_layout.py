"""A GGUF file of a Llama model -> a folder in Hugging Face layout.

transformers can open GGUF itself, but dequantises at every start (18 s for the default model);
a converted folder loads in a fraction of a second. Written out: `config.json`,
`generation_config.json`, `tokenizer.json`, `tokenizer_config.json`, `model.safetensors` (float16).
Only architecture `llama` with the byte-level vocabulary of SmolLM is known here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textpro_stream.errors import WeightsError
from textpro_stream.store.files import write_json

if TYPE_CHECKING:
    from gguf import GGUFReader

_CONTROL, _USER_DEFINED = 3, 4  # `tokenizer.ggml.token_type`: special, and added but plain

_BLOCK = {  # GGUF's tensor names in a block -> Hugging Face's
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def convert_llama(source: Path, folder: Path) -> None:
    """Write the Hugging Face layout of a GGUF Llama into `folder`.

    Args:
        source: the `.gguf` file, quantised or not.
        folder: an existing empty folder.

    Raises:
        WeightsError: if it is no GGUF file, another architecture, or an unknown tokenizer.
    """
    from gguf import GGUFReader
    from safetensors.numpy import save_file

    try:
        reader = GGUFReader(source)
    except (ValueError, IndexError) as error:
        raise WeightsError(f"{source.name}: not a GGUF file ({error})") from error
    _expect(reader, source, "general.architecture", "llama")
    _expect(reader, source, "tokenizer.ggml.model", "gpt2")
    _expect(reader, source, "tokenizer.ggml.pre", "smollm")
    config = _config(reader)
    tensors = dict(_tensors(reader, source, config))
    config["tie_word_embeddings"] = "lm_head.weight" not in tensors
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config)
    write_json(
        folder / "generation_config.json",
        {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    _write_tokenizer(reader, folder, max_length=config["max_position_embeddings"])


def undo_rope_order(rows: NDArray[Any], n_heads: int) -> NDArray[Any]:
    """Rows of a query or key projection, from GGUF's order to Hugging Face's.

    llama.cpp rotates neighbouring rows of a head, transformers rotates row i with row i + half, so
    GGUF files hold each head's two halves interleaved.

    Args:
        rows: (n_heads * d_head, d_model) as stored in the file.
        n_heads: query heads for a query projection, key heads for a key projection.
    """
    pairs = rows.reshape(n_heads, -1, 2, *rows.shape[1:])  # (n_heads, d_head / 2, 2, d_model)
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def _field(reader: GGUFReader, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()


def _expect(reader: GGUFReader, source: Path, key: str, expected: str) -> None:
    found = _field(reader, key)
    if found != expected:
        raise WeightsError(
            f"{source.name}: {key} is {found!r}, expected {expected!r};"
            " give the model's Hugging Face folder instead",
            found=found,
            expected=expected,
        )


def _config(reader: GGUFReader) -> dict[str, Any]:
    d_model = _field(reader, "llama.embedding_length")
    n_heads = _field(reader, "llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float16",
        "vocab_size": len(_field(reader, "tokenizer.ggml.tokens")),
        "hidden_size": d_model,
        "intermediate_size": _field(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _field(reader, "llama.block_count"),
        "num_attention_heads": n_heads,
        "num_key_value_heads": _field(reader, "llama.attention.head_count_kv", n_heads),
        "head_dim": _field(reader, "llama.rope.dimension_count", d_model // n_heads),
        "max_position_embeddings": _field(reader, "llama.context_length"),
        "rms_norm_eps": _field(reader, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": _field(reader, "llama.rope.freq_base", 10_000.0),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "use_cache": True,
        "bos_token_id": _field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _field(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _field(reader, "tokenizer.ggml.padding_token_id"),
    }


def _tensors(
    reader: GGUFReader, source: Path, config: dict[str, Any]
) -> Iterator[tuple[str, NDArray[np.float16]]]:
    from gguf.quants import dequantize

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name in _TOP:
            name = _TOP[tensor.name]
        else:
            _, _, rest = tensor.name.partition("blk.")
            layer, _, part = rest.removesuffix(".weight").partition(".")
            if part not in _BLOCK:
                raise WeightsError(
                    f"{source.name}: tensor {tensor.name!r} is not part of a plain Llama;"
                    " give the model's Hugging Face folder instead"
                )
            name = f"model.layers.{layer}.{_BLOCK[part]}.weight"
            if part in heads:
                values = undo_rope_order(values, heads[part])
        yield name, np.ascontiguousarray(values, dtype=np.float16)


def _write_tokenizer(reader: GGUFReader, folder: Path, *, max_length: int) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = _field(reader, "tokenizer.ggml.tokens")
    types: list[int] = _field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ", 1)) for merge in _field(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(
        models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    for kind, add in (
        (_CONTROL, tokenizer.add_special_tokens),
        (_USER_DEFINED, tokenizer.add_tokens),
    ):
        add(
            [
                AddedToken(t, normalized=False)
                for t, k in zip(tokens, types, strict=True)
                if k == kind
            ]
        )
    tokenizer.save(str(folder / "tokenizer.json"))

    def spelled(role: str) -> str | None:
        token_id = _field(reader, f"tokenizer.ggml.{role}_token_id")
        return None if token_id is None else tokens[token_id]

    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": max_length,
            "bos_token": spelled("bos"),
            "eos_token": spelled("eos"),
            "unk_token": spelled("unknown"),
            "pad_token": spelled("padding"),
            "chat_template": _field(reader, "tokenizer.chat_template"),
        },
    )
