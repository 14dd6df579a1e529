"""Which adapter belongs to a model: the one that ships for it, or a file that somebody trained."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from textpro_stream.errors import WeightsError
from textpro_stream.lora import Adapter

AUTO = "auto"
SHIPPED = (
    "adapters"  # folder of the package's assets; each `encoder-*.safetensors` is for one model
)


def find_adapter(name: str, base: str) -> Adapter | None:
    """The adapter that an option names.

    Args:
        name: `auto`, or a path.
        base: `lora.fingerprint` of the model.

    Returns:
        None if `auto` finds none that was made for this model.

    Raises:
        WeightsError: a file that is no adapter, or one of another model.
    """
    if name == AUTO:
        with as_file(files("textpro_stream") / "assets" / SHIPPED) as folder:
            shipped = (Adapter.read(path) for path in sorted(folder.glob("encoder-*.safetensors")))
            return next((adapter for adapter in shipped if adapter.base == base), None)
    adapter = Adapter.read(Path(name))
    if adapter.base != base:
        raise WeightsError(
            f"{name}: made for other weights than whisper.model; give the model that it was trained"
            " on, or train one: textpro train encoder",
            path=name,
        )
    return adapter
