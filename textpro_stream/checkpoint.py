"""A model folder in Hugging Face layout: its JSON files, and its tensors read one by one.

The only reader of safetensors and of the JSON beside them, for every model. Knows no architecture:
which tensors there should be is the affair of whoever reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from textpro_stream.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor


class Checkpoint:
    """The tensors of safetensors files. Opening it reads their headers only.

    Args:
        folder: all of its files together, or one file.

    Raises:
        WeightsError: no files, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata: dict[str, str] = {}
        files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
        if not files:
            raise WeightsError(
                f"{folder}: no *.safetensors; save the model with save_pretrained", folder=folder
            )
        self._home: dict[str, Any] = {}  # tensor name -> the open file that holds it
        self._read: set[str] = set()
        for file in files:
            try:
                opened: Any = safe_open(file, framework="pt")
            except (SafetensorError, OSError) as error:
                raise WeightsError(
                    f"{file} is damaged ({error}); download it again", file=file
                ) from error
            self.metadata |= opened.metadata() or {}
            for key in opened.keys():  # noqa: SIM118 - not a dict
                self._home[key] = opened

    def __contains__(self, key: str) -> bool:
        return key in self._home

    def __iter__(self) -> Iterator[str]:
        return iter(self._home)

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        return tuple(self._home[key].get_slice(key).get_shape())

    def read(self, key: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor in the file's dtype, on the CPU.

        Raises:
            WeightsError: missing, or of another shape.
        """
        if key not in self._home:
            raise WeightsError(
                f"{self.folder}: no tensor {key}; the download is incomplete or the config.json is"
                " another model's",
                folder=self.folder,
                key=key,
            )
        found = self.shape(key)
        if found != shape:
            raise WeightsError(
                f"{self.folder}: {key} has shape {found}, config.json asks for {shape}",
                key=key,
                found=found,
                expected=shape,
            )
        self._read.add(key)
        tensor: Tensor = self._home[key].get_tensor(key)
        return tensor

    def unread(self) -> set[str]:
        """Names of the tensors that nobody has asked for."""
        return set(self._home) - self._read

    def prefixes(self, anchor: str) -> list[str]:
        """What stands before `anchor` in the names that end with it, sorted.

        A tensor that each model of a kind has exactly once tells under which prefix it was saved.
        """
        return sorted(key.removesuffix(anchor) for key in self._home if key.endswith(anchor))


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json.

    Raises:
        WeightsError: missing or unreadable.
    """
    path = folder / "config.json"
    if not path.exists():
        raise WeightsError(f"{path} is missing; give a folder in Hugging Face layout", path=path)
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file.

    Raises:
        WeightsError: unreadable, or no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is not JSON ({error}); download it again", path=path) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no JSON object; download it again", path=path)
    return content
