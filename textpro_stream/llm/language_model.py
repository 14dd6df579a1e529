"""A language model, loaded once and shared by all conversations."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from textpro_stream.checkpoint import Checkpoint
from textpro_stream.config import LlmOptions
from textpro_stream.errors import ConfigError, WeightsError
from textpro_stream.llm.adapter import TOLD, check_made_for, find_adapter
from textpro_stream.llm.chat import Chat
from textpro_stream.llm.fusion import FusionSpec, Row, Tone
from textpro_stream.llm.projector import Projector, find_projector, random_projector
from textpro_stream.llm.session import LlamaBackbone
from textpro_stream.llm.textpro import fusion_spec, read_settings
from textpro_stream.llm.transformers_model import TransformersModel
from textpro_stream.llm.weights import is_llama, language_config, load_weights
from textpro_stream.ports import Session

log = logging.getLogger(__name__)

RANDOM_PROJECTOR = "random"  # `[llm] projector`: untrained; its replies mean nothing


class Backbone(Protocol):
    """Weights that open sessions."""

    @property
    def d_model(self) -> int:
        """Width of a row."""
        ...

    @property
    def n_vocabulary(self) -> int:
        """Rows of the embedding."""
        ...

    @property
    def context(self) -> int:
        """Rows that the model was trained for."""
        ...

    def embed(self, ids: list[int], /) -> Tensor:
        """Rows (n, d_model) of token ids."""
        ...

    def open(self, capacity: int, /) -> Session:
        """A fresh cache for one conversation."""
        ...

    def decode_together(self, sessions: Sequence[Any], tokens: Sequence[int], /) -> None:
        """Append one token to each of its own sessions, in one step if it can.

        Raises:
            StageError: one has no room; nothing was appended.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LanguageModel:
    """Weights, tokenizer, template and fusion; conversations open a `Dialogue` on it."""

    backbone: Backbone
    chat: Chat
    fusion: FusionSpec
    projector: Projector | None
    options: LlmOptions
    device: torch.device
    dtype: str  # what "auto" became

    @classmethod
    def load(
        cls,
        folder: Path,
        options: LlmOptions,
        device: torch.device,
        *,
        d_prosody: int | None = None,
        recogniser: str = "",
    ) -> LanguageModel:
        """Load a folder in Hugging Face layout.

        Args:
            folder: config.json, *.safetensors, tokenizer.json, a chat template; a TextPro
                checkpoint has textpro_config.json and a projector as well.
            options: `[llm]`.
            device: where it computes.
            d_prosody: width of Whisper's states, to check a projector against.
            recogniser: whose states they are, likewise.

        Raises:
            WeightsError: a missing key, a wrong width, no chat template, an architecture that
                nothing here can run; one line.
            ConfigError: a fusion that needs a projector, without one.
        """
        config = language_config(folder)
        chat = Chat(folder)
        dtype = options.dtype if options.dtype != "auto" else default_dtype(device)
        ours = is_llama(config)
        if not ours and dtype == "int8":
            if options.dtype == "int8":
                raise ConfigError(
                    f"{folder.name}: int8 is for Llama, Qwen2 and Mistral models, this is"
                    f" {config.get('model_type')!r}; use [llm] dtype float32 or bfloat16"
                )
            dtype = "float32"
        checkpoint = Checkpoint(folder)
        trained = _trained(options, checkpoint, recogniser)
        # Words alone are read by the LLM as it was: what it learnt is how to read rows.
        reads_rows = trained is not None and options.fusion not in ("text", "tags")
        adapter = find_adapter(trained) if trained is not None and reads_rows else None
        if adapter is not None and not ours:
            raise ConfigError(
                f"[llm] projector {adapter.path} trained the LLM as well, which is for Llama, Qwen2"
                f" and Mistral models; {folder.name} is {config.get('model_type')!r}"
            )
        backbone: Backbone
        if ours:
            backbone = LlamaBackbone(load_weights(checkpoint, config, dtype, device, adapter))
        else:
            log.info("%s: run by transformers", config.get("model_type"))
            backbone = TransformersModel(folder, getattr(torch, dtype), device)
        if chat.n_ids > backbone.n_vocabulary:
            raise WeightsError(
                f"{folder}: the tokenizer has {chat.n_ids} ids, the model {backbone.n_vocabulary}"
                " rows; they do not belong together"
            )
        spec, projector = _fusion(
            folder, checkpoint, trained, options, chat, backbone.d_model, d_prosody
        )
        if projector is not None:
            kind = torch.float32 if dtype == "int8" else getattr(torch, dtype)
            projector = projector.to(device, kind)
        return cls(backbone, chat, spec, projector, options, device, dtype)

    @property
    def notice(self) -> str:
        """What a user should know about the fusion, in one line; "" if there is nothing."""
        if self.fusion.kind == "tags":
            return (
                "the LLM is told how you sound where that is sure, as (I sound angry.) behind your"
                " words; --fusion text tells it words only"
            )
        if self.fusion.kind == "text":
            return "the LLM reads words only; tone of voice goes to events"
        if self.options.projector == RANDOM_PROJECTOR:
            return "the projector is random: replies mean nothing"
        return ""

    @property
    def knows_tools(self) -> bool:
        """The template shows tools to the model; otherwise they are left out."""
        return self.chat.knows_tools

    def rows(self, rows: Sequence[Row]) -> Tensor:
        """Input rows (n, d_model) of token ids and tones of voice.

        Raises:
            StageError: states that do not fit the projector.
        """
        embedded = self.backbone.embed([0 if isinstance(row, Tone) else row for row in rows])
        tones = [(i, row) for i, row in enumerate(rows) if isinstance(row, Tone)]
        if tones:
            assert self.projector is not None, "a tone needs a projector"
            pooled = torch.stack([tone.pooled() for _, tone in tones])
            index = torch.tensor([i for i, _ in tones]).to(embedded.device, non_blocking=True)
            embedded = embedded.index_copy(0, index, self.projector(pooled).to(embedded.dtype))
        return embedded


def default_dtype(device: torch.device) -> str:
    """What "auto" means: int8 on the CPU, bfloat16 elsewhere (docs/notes/0004)."""
    return "int8" if device.type == "cpu" else "bfloat16"


def _trained(options: LlmOptions, llm: Checkpoint, recogniser: str) -> Checkpoint | None:
    """The file that `[llm] projector` names, if it was made for these models."""
    if options.projector in ("", RANDOM_PROJECTOR):
        return None
    where = Path(options.projector)
    if not where.is_file():
        raise ConfigError(f"[llm] projector {where}: no such file; give a .safetensors file")
    file = Checkpoint(where)
    check_made_for(file, llm, recogniser)
    return file


def _fusion(
    folder: Path,
    checkpoint: Checkpoint,
    trained: Checkpoint | None,
    options: LlmOptions,
    chat: Chat,
    d_model: int,
    d_prosody: int | None,
) -> tuple[FusionSpec, Projector | None]:
    """How words and tones enter this model, and what makes rows of the tones."""
    told = read_settings(folder)
    where = folder
    projector: Projector | None = None
    if options.projector == RANDOM_PROJECTOR:
        if d_prosody is None:
            raise ConfigError("[llm] projector random needs a Whisper model to take its width from")
        projector = random_projector(d_prosody, d_model, options.seed)
    elif trained is not None:
        where = trained.folder
        projector = find_projector(trained, d_model)
        told = {k: v for k, v in trained.metadata.items() if k not in TOLD}
        if projector is None:
            raise WeightsError(f"{where}: no matrices, so no projector")
    elif told is not None:
        projector = find_projector(checkpoint, d_model)
        if projector is None:
            raise WeightsError(f"{folder}: textpro_config.json, but no projector beside the LLM")
    if projector is None:
        if options.fusion in ("interleave", "global"):
            raise ConfigError(
                f"[llm] fusion {options.fusion} needs a trained projector: set [llm] projector to"
                " its .safetensors file, or fusion to tags"
            )
        return FusionSpec("tags" if options.fusion == "auto" else options.fusion), None
    if d_prosody is not None and projector.d_prosody != d_prosody:
        raise WeightsError(
            f"{where}: the projector takes states of width {projector.d_prosody}, Whisper's are"
            f" {d_prosody} wide; use the Whisper model that it was trained with"
        )
    spec = fusion_spec(told or {}, chat, where, released=where.is_dir() and told is not None)
    if options.fusion != "auto":
        spec = replace(spec, kind=options.fusion)
    return spec, projector
