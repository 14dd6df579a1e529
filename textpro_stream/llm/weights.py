"""Llama-family weights from a Hugging Face folder, as plain tensors for the lean forward.

Llama, Qwen2 and Mistral without a window are one architecture with switches; SmolLM2, Llama 3 and
Qwen2.5 are among them. Released TextPro checkpoints keep the same tensors, perhaps under a prefix
and with a projector beside them. Other architectures go to `foreign.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from textpro_stream.checkpoint import Checkpoint, read_config
from textpro_stream.errors import WeightsError
from textpro_stream.linear import Linear, Vocabulary, linear
from textpro_stream.llm.rotation import Rotation

LEAN_TYPES = ("llama", "qwen2", "mistral")
ROPE_KINDS = ("default", "linear", "llama3")
ANCHOR = "embed_tokens.weight"  # every LLM has exactly one


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The sizes and switches of one model, from its config.json."""

    d_model: int
    d_mlp: int
    d_head: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    n_vocabulary: int
    context: int  # rows that the model was trained for
    eps: float
    tied: bool  # the vocabulary projection is the embedding
    rope: Mapping[str, Any]  # rope_type, rope_theta and what the kind needs


@dataclass(frozen=True, slots=True)
class Layer:
    """One block."""

    attention_norm: Tensor | None  # (d_model,); None: folded into qkv
    qkv: Linear  # d_model -> (heads + 2 kv heads) x d_head
    out: Linear
    mlp_norm: Tensor | None  # (d_model,); None: folded into gate_up
    gate_up: Linear  # d_model -> 2 x d_mlp
    down: Linear


@dataclass(frozen=True, slots=True)
class LlamaWeights:
    """Everything the forward reads. Shared by all conversations, never written."""

    dims: Dimensions
    dtype: torch.dtype  # of activations and cache
    embedding: Tensor  # (n_vocabulary, d_model)
    layers: tuple[Layer, ...]
    norm: Tensor  # (d_model,)
    vocabulary: Vocabulary
    rotation: Rotation | None  # between rows and layers, and back before the last norm


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


def is_lean(config: Mapping[str, Any]) -> bool:
    """Whether our own forward computes this model exactly."""
    windows = config.get("layer_types") or ()
    return (
        config.get("model_type") in LEAN_TYPES
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
    checkpoint: Checkpoint, config: Mapping[str, Any], dtype: str, device: torch.device
) -> LlamaWeights:
    """Read, fuse and place the tensors of one model.

    Args:
        checkpoint: the folder's tensors.
        config: the LLM's part of its config.json; `is_lean` holds.
        dtype: float32, bfloat16, float16 or int8 (float32 activations; CPU only).
        device: where the tensors go.

    Raises:
        WeightsError: a missing key, a wrong width, int8 away from the CPU.
    """
    int8 = dtype == "int8"
    if int8 and device.type != "cpu":
        raise WeightsError(f"dtype int8 runs on the CPU only, device is {device}: use bfloat16")
    kind = torch.float32 if int8 else getattr(torch, dtype)
    dims = dimensions(config, checkpoint.folder)
    prefix = own_prefix(checkpoint)
    d, heads, kv_heads = dims.d_model, dims.n_heads * dims.d_head, dims.n_kv_heads * dims.d_head

    rotation = Rotation(d, device) if int8 else None
    mlp_rotation = Rotation(dims.d_mlp, device) if int8 else None

    def tensor(key: str, *shape: int) -> Tensor:
        return checkpoint.read(key, shape).to(device, kind)

    def stacked(
        at: str, parts: tuple[tuple[str, int], ...], d_in: int
    ) -> tuple[Tensor, Tensor | None]:
        weight = torch.cat([tensor(f"{at}.{name}.weight", width, d_in) for name, width in parts])
        if not any(f"{at}.{name}.bias" in checkpoint for name, _ in parts):
            return weight, None
        return weight, torch.cat([tensor(f"{at}.{name}.bias", width) for name, width in parts])

    def reader(
        at: str, norm: str, parts: tuple[tuple[str, int], ...]
    ) -> tuple[Tensor | None, Linear]:
        """What reads from the residual stream, with the norm in front of it."""
        gain = tensor(f"{norm}.weight", d)
        weight, bias = stacked(at, parts, d)
        if rotation is None:
            return gain, linear(weight, bias)
        return None, linear(rotation.rows(weight * gain), bias, int8=True)

    def writer(at: str, name: str, d_in: int, turn: Rotation | None) -> Linear:
        """What writes to it; `turn` is applied to its input."""
        weight, bias = stacked(at, ((name, d),), d_in)
        if rotation is None:
            return linear(weight, bias)
        if turn is not None:
            weight = turn.rows(weight)
        bias = None if bias is None else rotation.rows(bias[None])[0]
        product = linear(rotation.columns(weight), bias, int8=True)
        return product if turn is None else lambda x: product(turn.rows(x))

    def layer(i: int) -> Layer:
        at = f"{prefix}layers.{i}"
        heads_of = (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads))
        attention_norm, qkv = reader(f"{at}.self_attn", f"{at}.input_layernorm", heads_of)
        halves = (("gate_proj", dims.d_mlp), ("up_proj", dims.d_mlp))
        mlp_norm, gate_up = reader(f"{at}.mlp", f"{at}.post_attention_layernorm", halves)
        out = writer(f"{at}.self_attn", "o_proj", heads, None)
        down = writer(f"{at}.mlp", "down_proj", dims.d_mlp, mlp_rotation)
        return Layer(attention_norm, qkv, out, mlp_norm, gate_up, down)

    # Turning and packing int8 weights takes a core two seconds; torch lets go of the GIL meanwhile.
    with ThreadPoolExecutor(2) as pool:
        layers = list(pool.map(layer, range(dims.n_layers)))
    embedding = checkpoint.read(f"{prefix}embed_tokens.weight", (dims.n_vocabulary, d))
    if not int8:  # int8 looks rows up and re-scores a few: the file's own dtype is exact and small
        embedding = embedding.to(device, kind)
    head = embedding
    if not dims.tied:
        head = checkpoint.read(f"{_head_prefix(prefix)}lm_head.weight", (dims.n_vocabulary, d))
        head = head if int8 else head.to(device, kind)
    return LlamaWeights(
        dims=dims,
        dtype=kind,
        embedding=embedding,
        layers=tuple(layers),
        norm=tensor(f"{prefix}norm.weight", d),
        vocabulary=Vocabulary(head, int8=int8),
        rotation=rotation,
    )


def rope_table(dims: Dimensions, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of rotary positions 0 to length-1, float32, (length, 1, d_head).

    The sine's first half is negated, so that rotating is `x * cos + roll(x, d_head/2) * sin`.
    Kinds: default, linear (positions shrunk) and llama3 (slow turns shrunk, fast ones kept, a
    blend between; Llama 3.1's rule).
    """
    rope = dims.rope
    steps = torch.arange(0, dims.d_head, 2, dtype=torch.float32)
    speed = 1.0 / float(rope["rope_theta"]) ** (steps / dims.d_head)  # (d_head/2,)
    if rope["rope_type"] == "linear":
        speed = speed / float(rope["factor"])
    if rope["rope_type"] == "llama3":
        low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
        turns = float(rope["original_max_position_embeddings"]) * speed / (2 * math.pi)
        keep = ((turns - low) / (high - low)).clamp(0.0, 1.0)
        speed = keep * speed + (1 - keep) * speed / float(rope["factor"])
    angles = torch.arange(length, dtype=torch.float32)[:, None] * speed
    cos, sin = angles.cos(), angles.sin()
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return cos[:, None].to(device), sin[:, None].to(device)


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
