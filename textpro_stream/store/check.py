"""Is this folder a model that can be loaded? Names, sizes and headers tell, never the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from textpro_stream.errors import WeightsError
from textpro_stream.store.catalogue import Kind

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")  # loading one can run anything its author likes
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))
_MAX_HEADER = 100_000_000  # bytes; the safetensors format's own limit


def check_folder(folder: Path, kind: Kind) -> None:
    """Refuse a folder that no loader could use.

    Args:
        folder: a local folder.
        kind: whisper and llm need Hugging Face layout: `config.json`, safetensors, a tokenizer.
            vad needs one ONNX file; voice an ONNX file with its `.onnx.json` beside it.

    Raises:
        WeightsError: one line with the first thing that is missing or damaged.
    """
    if kind in ("vad", "voice"):
        _check_onnx(folder, kind)
        return
    own = kind_of(folder)
    if own != kind:
        raise WeightsError(f"{folder} holds a {own} model, but a {kind} model is needed here")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise WeightsError(no_safetensors(folder, pickles_in(folder)), folder=folder)
    for path in weights:
        _check_safetensors(path)
    _check_shards(folder)
    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS):
        raise WeightsError(
            f"{folder} has no tokenizer: copy tokenizer.json of the model it was trained from"
            " into it",
            folder=folder,
        )


def kind_of(folder: Path) -> Kind:
    """Whether a folder in Hugging Face layout is a Whisper or a language model.

    Raises:
        WeightsError: if there is no readable `config.json`.
    """
    config = _read_json(folder / "config.json")
    named = [config.get("model_type"), *(config.get("architectures") or ())]
    return "whisper" if any("whisper" in str(name).lower() for name in named) else "llm"


def pickles_in(folder: Path) -> list[str]:
    """Names of the weights that would have to be unpickled."""
    return sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))


def no_safetensors(where: Path | str, pickles: list[str]) -> str:
    """The refusal of a model without safetensors."""
    if pickles:
        return (
            f"{where} has its weights only as pickles ({pickles[0]}), which may run code when"
            " opened: save it as safetensors (`save_pretrained` does), and give that folder"
        )
    return f"{where} has no *.safetensors: give a folder in Hugging Face layout"


def _check_onnx(folder: Path, kind: Kind) -> None:
    models = sorted(folder.glob("*.onnx"))
    if len(models) != 1:
        raise WeightsError(
            f"{folder} has {len(models)} *.onnx files, but a {kind} folder holds exactly one",
            folder=folder,
        )
    if kind == "voice":
        _read_json(models[0].with_name(models[0].name + ".json"))


def _check_shards(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    shards = set(_read_json(index).get("weight_map", {}).values())
    missing = sorted(name for name in shards if not (folder / name).is_file())
    if missing:
        raise WeightsError(
            f"{folder} lacks {len(missing)} of {len(shards)} shards, first {missing[0]}:"
            " copy the folder again, completely",
            folder=folder,
            missing=missing,
        )


def _check_safetensors(path: Path) -> None:
    """The header says how long the file has to be."""
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            header_size = int.from_bytes(stream.read(8), "little")
            if header_size > min(size, _MAX_HEADER):
                raise ValueError("its header is cut off")
            header = json.loads(stream.read(header_size))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
        expected = 8 + header_size + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path} is not a safetensors file ({error}): copy or download it again", path=path
        ) from error
    if size != expected:
        raise WeightsError(
            f"{path} has {size} bytes, but its header promises {expected}:"
            " copy or download it again",
            path=path,
            found=size,
            expected=expected,
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path.parent} has no {path.name}: give a complete model folder", path=path
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as JSON ({error})", path=path) from error
    if not isinstance(loaded, dict):
        raise WeightsError(f"{path} is not a JSON object", path=path)
    return loaded
