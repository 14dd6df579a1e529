from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from textpro_stream import store
from textpro_stream.errors import WeightsError
from textpro_stream.store.check import check_folder


def write_model(folder: Path, *, model_type: str = "llama", shards: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer.json").write_text("{}")
    if shards == 1:
        save_file({"w": np.ones((4, 4), np.float32)}, folder / "model.safetensors")
        return folder
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    for i, name in enumerate(names):
        save_file({f"w{i}": np.ones((4, 4), np.float32)}, folder / name)
    index = {"weight_map": {f"w{i}": name for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_a_local_folder_is_used_where_it_is(tmp_path, cache, model_type: str) -> None:
    folder = write_model(tmp_path / "mine", model_type=model_type)
    assert store.resolve(str(folder), "llm") == folder
    assert store.where(str(folder)) == folder
    assert store.verify(str(folder)) == []
    assert not cache.exists()


def test_a_folder_in_the_working_directory(tmp_path, cache, monkeypatch) -> None:
    write_model(tmp_path / "org" / "mine", model_type="whisper")
    monkeypatch.chdir(tmp_path)
    assert store.resolve("org/mine", "whisper") == Path("org/mine")


def test_the_layout_of_a_released_textpro_checkpoint(tmp_path) -> None:
    folder = write_model(tmp_path / "textpro", model_type="qwen2", shards=2)
    (folder / "textpro_config.json").write_text('{"fusion": "interleave"}')
    check_folder(folder, "llm")


def test_an_older_tokenizer_layout_will_do(tmp_path) -> None:
    folder = write_model(tmp_path / "mine")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text("{}")
    (folder / "merges.txt").write_text("")
    check_folder(folder, "llm")


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def cut_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:20])


def lfs_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


def empty_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def other_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"architectures": ["WhisperForConditionalGeneration"]}')


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (only_pickles, r"only as pickles \(pytorch_model.bin\)"),
        (no_weights, r"no \*.safetensors"),
        (truncated, "its header promises"),
        (cut_header, "not a safetensors file"),
        (lfs_pointer, "not a safetensors file"),
        (empty_file, "not a safetensors file"),
        (no_config, r"no config.json"),
        (broken_config, "cannot be read as JSON"),
        (no_tokenizer, "no tokenizer"),
        (other_kind, "holds a whisper model, but a llm model is needed"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(tmp_path, damage, words: str) -> None:
    folder = write_model(tmp_path / "mine")
    damage(folder)
    with pytest.raises(WeightsError, match=words) as caught:
        store.resolve(str(folder), "llm")
    assert "\n" not in str(caught.value)
    if damage is not other_kind:
        assert store.verify(str(folder)) != []


def test_a_missing_shard_is_named(tmp_path) -> None:
    folder = write_model(tmp_path / "mine", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks 1 of 3 shards, first model-00002-of-00003"):
        check_folder(folder, "llm")


def test_a_voice_folder_holds_one_voice_and_its_settings(tmp_path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"no a\.onnx\.json"):
        check_folder(tmp_path, "voice")
    (tmp_path / "a.onnx.json").write_text("{}")
    check_folder(tmp_path, "voice")
    (tmp_path / "b.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"2 \*\.onnx files"):
        check_folder(tmp_path, "voice")


@pytest.mark.parametrize("name", ["./nothing", "~/no/such/folder", "/no/such", "a/b/c"])
def test_a_path_to_nothing(name: str, cache) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        store.resolve(name, "llm")


def test_a_file_instead_of_a_folder(tmp_path) -> None:
    path = tmp_path / "model.gguf"
    path.touch()
    with pytest.raises(WeightsError, match="is a file: give a folder"):
        store.resolve(str(path), "llm")


def test_a_local_folder_has_no_revision_and_is_not_pulled(tmp_path) -> None:
    folder = write_model(tmp_path / "mine")
    with pytest.raises(WeightsError, match="has no revision"):
        store.resolve(str(folder), "llm", revision="main")
    with pytest.raises(WeightsError, match="nothing to pull"):
        store.pull(str(folder))


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/own", "/xdg", "/own"),
        (None, "/xdg", "/xdg/textpro-stream"),
        (None, "relative", "/home/someone/.cache/textpro-stream"),
        (None, None, "/home/someone/.cache/textpro-stream"),
        ("~/models", None, "/home/someone/models"),
    ],
)
def test_where_the_cache_is(monkeypatch, own: str | None, xdg: str | None, expected: str) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for name, value in (("TEXTPRO_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert store.cache_root() == Path(expected)
