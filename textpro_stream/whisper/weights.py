"""Whisper weights from a Hugging Face folder, as plain tensors ready for the lean forward.

One layout for every size: tiny.en, large-v3, turbo, and WhisperPro, whose inference weights are
Whisper's under another prefix with reconstruction parts beside them. Knows nothing of streaming.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from textpro_stream.errors import WeightsError
from textpro_stream.linear import Linear, linear

log = logging.getLogger(__name__)

LayerNorm = tuple[Tensor, Tensor]

WINDOW = 1500  # encoder positions of every published Whisper


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The sizes of one model, from its config.json."""

    n_mels: int
    n_positions: int  # encoder positions, 1500
    n_context: int  # decoder positions, 448
    n_vocabulary: int
    d_model: int
    n_heads: int
    n_encoder_layers: int
    n_decoder_layers: int
    d_encoder_mlp: int
    d_decoder_mlp: int

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def prosody_layer(self) -> int:
        """Decoder layers run before the prosody state is read: 16 of 32 in the paper."""
        return self.n_decoder_layers // 2


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """One encoder block."""

    attention_norm: LayerNorm
    qkv: Linear
    out: Linear
    mlp_norm: LayerNorm
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """One decoder block."""

    attention_norm: LayerNorm
    qkv: Linear
    out: Linear
    cross_norm: LayerNorm
    cross_q: Linear
    cross_out: Linear
    mlp_norm: LayerNorm
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class WhisperWeights:
    """Everything the forward reads. Shared by all conversations, never written."""

    dims: Dimensions
    dtype: torch.dtype  # of activations and caches
    conv1: tuple[Tensor, Tensor]
    conv2: tuple[Tensor, Tensor]
    encoder_positions: Tensor  # (n_positions, d_model)
    encoder: tuple[EncoderLayer, ...]
    encoder_norm: LayerNorm
    embedding: Tensor  # (n_vocabulary, d_model)
    decoder_positions: Tensor  # (n_context, d_model)
    decoder: tuple[DecoderLayer, ...]
    decoder_norm: LayerNorm
    cross_kv: Linear  # d_model -> layers x (key, value) x d_model, in one product
    alignment_heads: tuple[tuple[int, int], ...]  # (layer, head) whose attention follows time


def load_weights(folder: Path, dtype: str, device: torch.device) -> WhisperWeights:
    """Read a folder with config.json and *.safetensors.

    Args:
        folder: Hugging Face layout, Whisper or WhisperPro.
        dtype: float32, bfloat16, float16 or int8 (float32 activations, int8 weights, CPU only).
        device: where the tensors go.

    Raises:
        WeightsError: a missing file or key, a wrong width; one line that names it.
    """
    int8 = dtype == "int8"
    if int8 and device.type != "cpu":
        raise WeightsError(f"dtype int8 runs on the CPU only, device is {device}: use float16")
    kind = torch.float32 if int8 else getattr(torch, dtype)
    config = _json(folder / "config.json")
    dims = _dimensions(config, folder)
    tensors = _Tensors(_read(folder), folder, kind, device)
    d, layers = dims.d_model, dims.n_decoder_layers

    def product(weight: Tensor, bias: Tensor | None) -> Linear:
        return linear(weight, bias, int8=int8)

    def fused(prefix: str, names: tuple[str, ...]) -> Linear:
        weights = [tensors(f"{prefix}.{name}.weight", (d, d)) for name in names]
        # Whisper's keys carry no bias
        biases = [
            tensors.zeros(d) if name == "k_proj" else tensors(f"{prefix}.{name}.bias", (d,))
            for name in names
        ]
        return product(torch.cat(weights), torch.cat(biases))

    def plain(name: str, d_out: int, d_in: int) -> Linear:
        return product(tensors(f"{name}.weight", (d_out, d_in)), tensors(f"{name}.bias", (d_out,)))

    def norm(name: str) -> LayerNorm:
        return tensors(f"{name}.weight", (d,)), tensors(f"{name}.bias", (d,))

    encoder_width, decoder_width = dims.d_encoder_mlp, dims.d_decoder_mlp
    encoder = tuple(
        EncoderLayer(
            attention_norm=norm(f"{at}.self_attn_layer_norm"),
            qkv=fused(f"{at}.self_attn", ("q_proj", "k_proj", "v_proj")),
            out=plain(f"{at}.self_attn.out_proj", d, d),
            mlp_norm=norm(f"{at}.final_layer_norm"),
            up=plain(f"{at}.fc1", encoder_width, d),
            down=plain(f"{at}.fc2", d, encoder_width),
        )
        for at in (f"encoder.layers.{i}" for i in range(dims.n_encoder_layers))
    )
    decoder = tuple(
        DecoderLayer(
            attention_norm=norm(f"{at}.self_attn_layer_norm"),
            qkv=fused(f"{at}.self_attn", ("q_proj", "k_proj", "v_proj")),
            out=plain(f"{at}.self_attn.out_proj", d, d),
            cross_norm=norm(f"{at}.encoder_attn_layer_norm"),
            cross_q=fused(f"{at}.encoder_attn", ("q_proj",)),
            cross_out=plain(f"{at}.encoder_attn.out_proj", d, d),
            mlp_norm=norm(f"{at}.final_layer_norm"),
            up=plain(f"{at}.fc1", decoder_width, d),
            down=plain(f"{at}.fc2", d, decoder_width),
        )
        for at in (f"decoder.layers.{i}" for i in range(layers))
    )
    cross = [f"decoder.layers.{i}.encoder_attn" for i in range(layers)]
    cross_weight = torch.cat(
        [tensors(f"{at}.{name}.weight", (d, d)) for at in cross for name in ("k_proj", "v_proj")]
    )
    cross_bias = torch.cat(
        [bias for at in cross for bias in (tensors.zeros(d), tensors(f"{at}.v_proj.bias", (d,)))]
    )
    weights = WhisperWeights(
        dims=dims,
        dtype=kind,
        conv1=(
            tensors("encoder.conv1.weight", (d, dims.n_mels, 3)),
            tensors("encoder.conv1.bias", (d,)),
        ),
        conv2=(tensors("encoder.conv2.weight", (d, d, 3)), tensors("encoder.conv2.bias", (d,))),
        encoder_positions=tensors("encoder.embed_positions.weight", (dims.n_positions, d)),
        encoder=encoder,
        encoder_norm=norm("encoder.layer_norm"),
        embedding=tensors("decoder.embed_tokens.weight", (dims.n_vocabulary, d)),
        decoder_positions=tensors("decoder.embed_positions.weight", (dims.n_context, d)),
        decoder=decoder,
        decoder_norm=norm("decoder.layer_norm"),
        cross_kv=product(cross_weight, cross_bias),
        alignment_heads=_alignment_heads(folder, dims),
    )
    if tensors.unused():
        log.info("%s: %d tensors not needed for inference", folder, len(tensors.unused()))
    return weights


class _Tensors:
    """Checked access to the state dict under whichever prefix it has."""

    def __init__(
        self, state: Mapping[str, Tensor], folder: Path, dtype: torch.dtype, device: torch.device
    ) -> None:
        anchor = "encoder.conv1.weight"
        prefixes = sorted({key[: -len(anchor)] for key in state if key.endswith(anchor)})
        if len(prefixes) != 1:
            found = "none" if not prefixes else f"under {prefixes}"
            raise WeightsError(
                f"{folder}: expected one Whisper (…{anchor}), found {found};"
                " give a WhisperForConditionalGeneration or WhisperPro folder",
                folder=folder,
            )
        self._state, self._prefix, self._folder = state, prefixes[0], folder
        self._dtype, self._device = dtype, device
        self._used: set[str] = set()

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        key = self._prefix + name
        if key not in self._state:
            raise WeightsError(
                f"{self._folder}: tensor {key} is missing; the download is incomplete or the"
                " config.json is another model's",
                key=key,
            )
        tensor = self._state[key]
        if tuple(tensor.shape) != shape:
            raise WeightsError(
                f"{self._folder}: {key} has shape {tuple(tensor.shape)}, config.json asks for"
                f" {shape}",
                key=key,
            )
        self._used.add(key)
        return tensor.to(self._device, self._dtype)

    def zeros(self, n: int) -> Tensor:
        return torch.zeros(n, dtype=self._dtype, device=self._device)

    def unused(self) -> set[str]:
        return set(self._state) - self._used


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing: not a model folder", path=path) from None
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON ({error}): download it again") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no JSON object: download it again", path=path)
    return content


def _dimensions(config: dict[str, Any], folder: Path) -> Dimensions:
    try:
        dims = Dimensions(
            n_mels=int(config["num_mel_bins"]),
            n_positions=int(config["max_source_positions"]),
            n_context=int(config["max_target_positions"]),
            n_vocabulary=int(config["vocab_size"]),
            d_model=int(config["d_model"]),
            n_heads=int(config["decoder_attention_heads"]),
            n_encoder_layers=int(config["encoder_layers"]),
            n_decoder_layers=int(config["decoder_layers"]),
            d_encoder_mlp=int(config["encoder_ffn_dim"]),
            d_decoder_mlp=int(config["decoder_ffn_dim"]),
        )
        encoder_heads = int(config["encoder_attention_heads"])
    except KeyError as error:
        raise WeightsError(
            f"{folder}/config.json has no {error}: not a Whisper model", folder=folder
        ) from None
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder}/config.json: a size among num_mel_bins … d_model is no number ({error});"
            " download it again",
            folder=folder,
        ) from None
    if dims.n_heads != encoder_heads or dims.n_heads < 1 or dims.d_model % dims.n_heads:
        raise WeightsError(
            f"{folder}/config.json: d_model {dims.d_model} with encoder_attention_heads"
            f" {encoder_heads} and decoder_attention_heads {dims.n_heads}; expected equal numbers"
            " that divide it",
            folder=folder,
        )
    if dims.n_positions != WINDOW:
        raise WeightsError(
            f"{folder}/config.json: max_source_positions {dims.n_positions}, expected {WINDOW}:"
            " a Whisper for windows of 30 s",
            folder=folder,
        )
    return dims


def _read(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise WeightsError(
            f"{folder}: no *.safetensors; convert the weights with save_pretrained", folder=folder
        )
    state: dict[str, Tensor] = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                for key in opened.keys():  # noqa: SIM118 - not a dict
                    state[key] = opened.get_tensor(key)
        except SafetensorError as error:
            raise WeightsError(
                f"{file} cannot be read ({error}); download it again", file=file
            ) from None
    return state


def _alignment_heads(folder: Path, dims: Dimensions) -> tuple[tuple[int, int], ...]:
    path = folder / "generation_config.json"
    heads = _json(path).get("alignment_heads") if path.exists() else None
    if heads:
        named = tuple((int(layer), int(head)) for layer, head in heads)
        for layer, head in named:
            if not (0 <= layer < dims.n_decoder_layers and 0 <= head < dims.n_heads):
                raise WeightsError(
                    f"{path}: alignment_heads names layer {layer}, head {head} of"
                    f" {dims.n_decoder_layers} layers with {dims.n_heads} heads; it is another"
                    " model's",
                    path=path,
                )
        return named
    # Nothing published: the upper half of the layers, all heads, as openai-whisper does.
    half = dims.n_decoder_layers // 2
    return tuple(
        (layer, head)
        for layer in range(half, dims.n_decoder_layers)
        for head in range(dims.n_heads)
    )
