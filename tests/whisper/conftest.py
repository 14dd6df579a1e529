"""Model folders made once, and loaded models over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_whisper import listening_model, random_model, save

from textpro_stream.config import WhisperOptions
from textpro_stream.whisper import WhisperPro

CPU = torch.device("cpu")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small products are faster alone, and sums then always come out the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """English only, noise in every weight."""
    return save(random_model(), tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="session")
def multilingual_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With languages and tasks."""
    folder = tmp_path_factory.mktemp("multilingual")
    return save(random_model(multilingual=True, seed=1), folder, multilingual=True)


@pytest.fixture(scope="session")
def listening_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says words for notes and nothing for silence."""
    return save(listening_model(), tmp_path_factory.mktemp("listening"))


@pytest.fixture(scope="session")
def listener(listening_folder: Path) -> WhisperPro:
    """In small blocks, so that a few seconds of audio are many steps."""
    options = WhisperOptions(block_ms=320, look_ahead_ms=160)
    return WhisperPro.load(listening_folder, options, CPU)
