"""Whisper weights from a Hugging Face folder into the modules of `model.py`.

One layout for every size: tiny.en, large-v3, turbo, and WhisperPro, whose inference weights are
Whisper's under another prefix with reconstruction parts beside them. Knows nothing of streaming.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from textpro_stream.checkpoint import Checkpoint, read_config, read_json
from textpro_stream.errors import WeightsError
from textpro_stream.linear import Vocabulary, frozen, linear, quantise
from textpro_stream.lora import fingerprint
from textpro_stream.whisper.adapter import find_adapter
from textpro_stream.whisper.model import DecoderBlock, Dimensions, EncoderBlock, Whisper

log = logging.getLogger(__name__)

WINDOW = 1500  # encoder positions of every published Whisper
ANCHOR = "encoder.conv1.weight"  # every Whisper has exactly one


def load_weights(folder: Path, dtype: str, device: torch.device, adapter: str = "") -> Whisper:
    """Read a folder with config.json and *.safetensors; the parameters ask for no gradient.

    Args:
        folder: Hugging Face layout, Whisper or WhisperPro.
        dtype: float32, bfloat16, float16 or int8 (float32 activations, int8 weights, CPU only).
        device: where the tensors go.
        adapter: what training added, as `WhisperOptions.adapter` names it; "" for nothing.

    Raises:
        WeightsError: a missing file or key, a wrong width; one line that names it.
    """
    int8 = dtype == "int8"
    if int8 and device.type != "cpu":
        raise WeightsError(f"dtype int8 runs on the CPU only, device is {device}: use float16")
    kind = torch.float32 if int8 else getattr(torch, dtype)
    dims = _dimensions(read_config(folder), folder)
    tensors = _Tensors(Checkpoint(folder), kind, device)
    heads = _alignment_heads(folder, dims)
    with torch.device("meta"):  # shapes only: nothing is initialised in vain
        model = Whisper(dims, heads)
    with torch.no_grad():
        _fill(model, tensors)
    model.vocabulary = Vocabulary(model.decoder.embedding, int8=False)
    model.base = tensors.fingerprint()
    if adapter and (found := find_adapter(adapter, model.base)):
        model.whole_encoder = copy.deepcopy(model.encoder)
        found.merge(model)
        log.info("%s: with adapter %s", folder, found.path.name)
    if int8:
        quantise(model.encoder)
        if model.whole_encoder is not model.encoder:
            quantise(model.whole_encoder)
        quantise(model.decoder)
    if unread := tensors.checkpoint.unread():
        log.info("%s: %d tensors not needed for inference", folder, len(unread))
    return model


def _fill(model: Whisper, tensors: _Tensors) -> None:
    dims, encoder, decoder = model.dims, model.encoder, model.decoder
    d = dims.d_model
    for name, conv, d_in in (("conv1", encoder.conv1, dims.n_mels), ("conv2", encoder.conv2, d)):
        conv.weight = frozen(tensors(f"encoder.{name}.weight", d, d_in, 3))
        conv.bias = frozen(tensors(f"encoder.{name}.bias", d))
    for side, name, n in (
        (encoder, "encoder", dims.n_positions),
        (decoder, "decoder", dims.n_context),
    ):
        side.positions = frozen(tensors(f"{name}.embed_positions.weight", n, d))
        tensors.norm(side.norm, f"{name}.layer_norm")
    for i, block in enumerate(encoder.blocks):
        assert isinstance(block, EncoderBlock)
        _fill_block(block, tensors, f"encoder.layers.{i}", dims.d_encoder_mlp)
    for i, block in enumerate(decoder.blocks):
        assert isinstance(block, DecoderBlock)
        at = f"decoder.layers.{i}"
        _fill_block(block, tensors, at, dims.d_decoder_mlp)
        tensors.norm(block.cross_norm, f"{at}.encoder_attn_layer_norm")
        block.cross_q = tensors.product(d, d, f"{at}.encoder_attn.q_proj")
        block.cross_out = tensors.product(d, d, f"{at}.encoder_attn.out_proj")
        heads = [head for layer, head in decoder.alignment_heads if layer == i]
        block.aligned = torch.tensor(heads, dtype=torch.long, device=tensors.device)
    decoder.embedding = frozen(tensors("decoder.embed_tokens.weight", dims.n_vocabulary, d))
    cross = [f"decoder.layers.{i}.encoder_attn" for i in range(dims.n_decoder_layers)]
    names = [f"{at}.{part}_proj" for at in cross for part in "kv"]
    decoder.cross_kv = tensors.product(d, d, *names)


def _fill_block(block: EncoderBlock | DecoderBlock, tensors: _Tensors, at: str, d_mlp: int) -> None:
    d = block.attention_norm.normalized_shape[0]
    tensors.norm(block.attention_norm, f"{at}.self_attn_layer_norm")
    block.qkv = tensors.product(d, d, *(f"{at}.self_attn.{part}_proj" for part in "qkv"))
    block.out = tensors.product(d, d, f"{at}.self_attn.out_proj")
    tensors.norm(block.mlp_norm, f"{at}.final_layer_norm")
    block.up = tensors.product(d_mlp, d, f"{at}.fc1")
    block.down = tensors.product(d, d_mlp, f"{at}.fc2")


class _Tensors:
    """The checkpoint's tensors under whichever prefix they have, where they shall be."""

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
        prefixes = checkpoint.prefixes(ANCHOR)
        if len(prefixes) != 1:
            found = "none" if not prefixes else f"under {prefixes}"
            raise WeightsError(
                f"{checkpoint.folder}: expected one Whisper (…{ANCHOR}), found {found};"
                " give a WhisperForConditionalGeneration or WhisperPro folder",
                folder=checkpoint.folder,
            )
        self.checkpoint, self.device = checkpoint, device
        self._prefix, self._dtype = prefixes[0], dtype

    def __call__(self, name: str, *shape: int) -> Tensor:
        return self.checkpoint.read(self._prefix + name, shape).to(self.device, self._dtype)

    def fingerprint(self) -> str:
        """Tells this model's weights from another's, in whatever dtype they are wanted."""
        name = self._prefix + ANCHOR
        return fingerprint(self.checkpoint.read(name, self.checkpoint.shape(name)))

    def norm(self, norm: nn.LayerNorm, name: str) -> None:
        """Fill a layer norm."""
        (d,) = norm.normalized_shape
        norm.weight = frozen(self(f"{name}.weight", d))
        norm.bias = frozen(self(f"{name}.bias", d))

    def product(self, d_out: int, d_in: int, *names: str) -> nn.Linear:
        """One product of several, each (d_out, d_in), one below the other."""
        weights = [self(f"{name}.weight", d_out, d_in) for name in names]
        # Whisper's keys carry no bias
        biases = [
            torch.zeros(d_out, dtype=self._dtype, device=self.device)
            if name.endswith("k_proj")
            else self(f"{name}.bias", d_out)
            for name in names
        ]
        if len(names) == 1:
            return linear(weights[0], biases[0])
        return linear(torch.cat(weights), torch.cat(biases))


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


def _alignment_heads(folder: Path, dims: Dimensions) -> tuple[tuple[int, int], ...]:
    path = folder / "generation_config.json"
    heads = read_json(path).get("alignment_heads")
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
