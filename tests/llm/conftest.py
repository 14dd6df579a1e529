"""Tiny random language models, made once a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_llm import D_PROSODY, write_model

from textpro_stream.config import LlmOptions
from textpro_stream.llm import LanguageModel

DEFAULTS: dict[str, Any] = {
    "dtype": "float32",
    "context": 256,
    "max_tokens": 12,
    "repetition_penalty": 1.0,
    "system_prompt": "Answer shortly.",
}
torch.set_num_threads(1)  # models this small only lose time by sharing work


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folders by architecture, each made once."""
    made: dict[str, Path] = {}

    def get(kind: str, **changes: Any) -> Path:
        key = json.dumps([kind, changes], sort_keys=True)
        if key not in made:
            made[key] = tmp_path_factory.mktemp(kind)
            write_model(made[key], kind, **changes)
        return made[key]

    return get


@pytest.fixture(scope="session")
def load(folder_of: Callable[..., Path]) -> Callable[..., LanguageModel]:
    """`load("Llama", dtype=..., config changes as `config=`)`: a tiny LanguageModel."""

    def get(kind: str = "Llama", config: dict[str, Any] | None = None, **options: Any):
        chosen = LlmOptions(**(DEFAULTS | options))
        folder = folder_of(kind, **(config or {}))
        return LanguageModel.load(folder, chosen, torch.device("cpu"), d_prosody=D_PROSODY)

    return get
