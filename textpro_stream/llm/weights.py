"""Llama-family weights from a Hugging Face folder into the modules of `model.py`.

Llama, Qwen2 and Mistral without a window are one architecture with switches; SmolLM2, Llama 3 and
Qwen2.5 are among them. Released TextPro checkpoints keep the same tensors, perhaps under a prefix
and with a projector beside them. Other architectures go to `transformers_model.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from textpro_stream.checkpoint import Checkpoint, read_config
from textpro_stream.errors import WeightsError
from textpro_stream.linear import Vocabulary, frozen, linear, quantise
from textpro_stream.llm.model import Block, Dimensions, Llama
from textpro_stream.llm.rotation import Rotation
from textpro_stream.lora import Adapter

LLAMA_TYPES = ("llama", "qwen2", "mistral")
ROPE_KINDS = ("default", "linear", "llama3")
ANCHOR = "embed_tokens.weight"  # every LLM has exactly one


def own_prefix(checkpoint: Checkpoint) -> str:
    """What stands before the LLM's own names, found by its embedding.

    Raises:
        WeightsError: no embedding, or several.
    """
    found = checkpoint.prefixes(ANCHOR)
    if len(found) != 1:
        raise WeightsError(
            f"{checkpoint.folder}: {len(found)} tensors end with {ANCHOR}, expected one",
            folder=checkpoint.folder,
        )
    return found[0]


def foreign_keys(checkpoint: Checkpoint) -> list[str]:
    """Tensor names beside a Llama-family LLM's own; all, where there is no LLM."""
    own: tuple[str, ...] = ()
    if checkpoint.prefixes(ANCHOR):
        body = own_prefix(checkpoint)
        names = ("embed_tokens.", "layers.", "norm.", "rotary_emb.")
        own = (*(body + name for name in names), f"{_head_prefix(body)}lm_head.")
    return [key for key in checkpoint if not (own and key.startswith(own))]


def language_config(folder: Path) -> dict[str, Any]:
    """config.json; where a wrapper keeps the LLM's part under a key of its own, that part.

    Raises:
        WeightsError: missing or unreadable.
    """
    config = read_config(folder)
    for key in ("llm_config", "text_config", "language_config"):
        if isinstance(config.get(key), dict):
            return dict(config[key])
    return config


def is_llama(config: Mapping[str, Any]) -> bool:
    """Whether `model.py` computes this model exactly."""
    windows = config.get("layer_types") or ()
    return (
        config.get("model_type") in LLAMA_TYPES
        and config.get("hidden_act", "silu") == "silu"
        and _rope(config)["rope_type"] in ROPE_KINDS
        and all(kind == "full_attention" for kind in windows)
        and not config.get("use_sliding_window", False)
        and (config.get("model_type") != "mistral" or not config.get("sliding_window"))
    )


def dimensions(config: Mapping[str, Any], folder: Path) -> Dimensions:
    """The sizes that config.json tells.

    Raises:
        WeightsError: one is missing.
    """
    try:
        d_model, n_heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        return Dimensions(
            d_model=d_model,
            d_mlp=int(config["intermediate_size"]),
            d_head=int(config.get("head_dim") or d_model // n_heads),
            n_layers=int(config["num_hidden_layers"]),
            n_heads=n_heads,
            n_kv_heads=int(config.get("num_key_value_heads") or n_heads),
            n_vocabulary=int(config["vocab_size"]),
            context=int(config.get("max_position_embeddings", 2048)),
            eps=float(config.get("rms_norm_eps", 1e-6)),
            tied=bool(config.get("tie_word_embeddings", False)),
            rope=_rope(config),
        )
    except KeyError as error:
        raise WeightsError(f"{folder}/config.json: no {error.args[0]}", folder=folder) from error


def load_weights(
    checkpoint: Checkpoint,
    config: Mapping[str, Any],
    dtype: str,
    device: torch.device,
    adapter: Adapter | None = None,
) -> Llama:
    """Read, fuse and place the tensors of one model; its parameters ask for no gradient.

    Args:
        checkpoint: the folder's tensors.
        config: the LLM's part of its config.json; `is_llama` holds.
        dtype: float32, bfloat16, float16 or int8 (float32 activations; CPU only).
        device: where the tensors go.
        adapter: merged into the products before anything is quantised.

    Raises:
        WeightsError: a missing key, a wrong width, int8 away from the CPU, an adapter that does
            not fit.
    """
    int8 = dtype == "int8"
    if int8 and device.type != "cpu":
        raise WeightsError(f"dtype int8 runs on the CPU only, device is {device}: use bfloat16")
    kind = torch.float32 if int8 else getattr(torch, dtype)
    dims = dimensions(config, checkpoint.folder)
    prefix = own_prefix(checkpoint)
    d, heads, kv_heads = dims.d_model, dims.n_heads * dims.d_head, dims.n_kv_heads * dims.d_head
    with torch.device("meta"):  # shapes only: nothing is initialised in vain
        model = Llama(dims)

    def tensor(key: str, *shape: int) -> Tensor:
        return checkpoint.read(key, shape).to(device, kind)

    def stacked(at: str, d_in: int, **parts: int) -> nn.Linear:
        weight = torch.cat([tensor(f"{at}.{name}.weight", n, d_in) for name, n in parts.items()])
        if not any(f"{at}.{name}.bias" in checkpoint for name in parts):
            return linear(weight)
        return linear(
            weight, torch.cat([tensor(f"{at}.{name}.bias", n) for name, n in parts.items()])
        )

    def fill(i: int, block: Block) -> None:
        at = f"{prefix}layers.{i}"
        block.attention_norm = frozen(tensor(f"{at}.input_layernorm.weight", d))
        block.qkv = stacked(f"{at}.self_attn", d, q_proj=heads, k_proj=kv_heads, v_proj=kv_heads)
        block.out = stacked(f"{at}.self_attn", heads, o_proj=d)
        block.mlp_norm = frozen(tensor(f"{at}.post_attention_layernorm.weight", d))
        block.gate_up = stacked(f"{at}.mlp", d, gate_proj=dims.d_mlp, up_proj=dims.d_mlp)
        block.down = stacked(f"{at}.mlp", dims.d_mlp, down_proj=d)
        if adapter is not None:
            adapter.below(f"blocks.{i}.").merge(block)
        if rotation is not None and mlp_rotation is not None:
            turn(block, rotation, mlp_rotation)
            quantise(block)

    rotation, mlp_rotation = (Rotation(d), Rotation(dims.d_mlp)) if int8 else (None, None)
    # Turning and packing int8 weights takes a core two seconds; torch lets go of the GIL meanwhile.
    with torch.no_grad(), ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, range(dims.n_layers), model.blocks))
    model.norm = frozen(tensor(f"{prefix}norm.weight", d))
    model.rotation = rotation

    def table(key: str) -> nn.Parameter:
        found = checkpoint.read(key, (dims.n_vocabulary, d))
        # int8 looks rows up and re-scores a few: the file's own dtype is exact and small
        return frozen(found if int8 else found.to(device, kind))

    model.embedding = table(prefix + ANCHOR)
    head = model.embedding
    if not dims.tied:
        head = table(f"{_head_prefix(prefix)}lm_head.weight")
    model.vocabulary = Vocabulary(head, int8=int8)
    return model


@torch.no_grad()
def turn(block: Block, rotation: Rotation, mlp_rotation: Rotation) -> None:
    """Fold norms and rotations into a block's products, in place; see `rotation.py`.

    Args:
        block: float32.
        rotation: of the residual stream.
        mlp_rotation: of what `down` reads.
    """
    readers = ((block.qkv, block.attention_norm), (block.gate_up, block.mlp_norm))
    for reader, norm in readers:
        assert norm is not None, "turned already"
        reader.weight = frozen(rotation.rows(reader.weight * norm))
    block.attention_norm = block.mlp_norm = None
    block.down.weight = frozen(mlp_rotation.rows(block.down.weight))
    block.rotation = mlp_rotation
    for writer in (block.out, block.down):
        writer.weight = frozen(rotation.columns(writer.weight))
        if writer.bias is not None:
            writer.bias = frozen(rotation.rows(writer.bias))


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """One spelling of the three that config.json files have had."""
    rope: dict[str, Any] = dict(config.get("rope_scaling") or {})
    rope.update(config.get("rope_parameters") or {})
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    rope.setdefault("rope_theta", config.get("rope_theta", 10_000.0))
    return rope


def _head_prefix(prefix: str) -> str:
    """`model.` belongs to the body; the vocabulary projection stands beside it."""
    return prefix.removesuffix("model.")
