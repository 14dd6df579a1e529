from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from textpro_stream.checkpoint import Checkpoint, read_config, read_json
from textpro_stream.errors import WeightsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, together one model under a prefix."""
    save_file({"body.up.weight": torch.ones(2, 3)}, tmp_path / "model-1.safetensors", {"by": "me"})
    save_file({"body.down.weight": torch.zeros(3, 2)}, tmp_path / "model-2.safetensors")
    return tmp_path


def test_the_files_of_a_folder_are_one(folder: Path) -> None:
    checkpoint = Checkpoint(folder)
    assert sorted(checkpoint) == ["body.down.weight", "body.up.weight"]
    assert checkpoint.shape("body.down.weight") == (3, 2)
    assert torch.equal(checkpoint.read("body.up.weight", (2, 3)), torch.ones(2, 3))
    assert checkpoint.unread() == {"body.down.weight"}
    assert checkpoint.metadata["by"] == "me"
    assert "body.down.weight" not in Checkpoint(folder / "model-1.safetensors")


def test_a_name_that_is_there_once_tells_the_prefix(folder: Path) -> None:
    assert Checkpoint(folder).prefixes("up.weight") == ["body."]
    assert Checkpoint(folder).prefixes("head.weight") == []


def test_tensors_that_do_not_fit_are_refused_in_one_line(folder: Path) -> None:
    checkpoint = Checkpoint(folder)
    with pytest.raises(WeightsError, match=r"up\.weight has shape \(2, 3\).* asks for \(9, 3\)"):
        checkpoint.read("body.up.weight", (9, 3))
    with pytest.raises(WeightsError, match=r"no tensor up\.weight"):
        checkpoint.read("up.weight", (2, 3))


def test_files_that_are_none_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"no \*\.safetensors"):
        Checkpoint(tmp_path / "empty")
    (folder / "model-1.safetensors").write_bytes(b"short")
    with pytest.raises(WeightsError, match=r"model-1\.safetensors is damaged"):
        Checkpoint(folder)


@pytest.mark.parametrize(
    ("content", "told"), [("{", "is not JSON"), ("[]", "no JSON object"), (None, "is missing")]
)
def test_a_config_that_is_none_is_refused_in_one_line(
    tmp_path: Path, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=f"config.json {told}|config.json holds {told}") as error:
        read_config(tmp_path)
    assert "\n" not in str(error.value)


def test_other_json_files_may_be_missing(tmp_path: Path) -> None:
    assert read_json(tmp_path / "generation_config.json") == {}
