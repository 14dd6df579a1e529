"""Which adapter belongs to a model: the one that ships for it, or a file that somebody trained."""

from __future__ import annotations

from pathlib import Path

from textpro_stream.errors import WeightsError
from textpro_stream.lora import Adapter

AUTO = "auto"
# Each `encoder-*.safetensors` in it is for one model.
SHIPPED = Path(__file__).parents[1] / "assets" / "adapters"


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
        shipped = (Adapter.read(path) for path in sorted(SHIPPED.glob("encoder-*.safetensors")))
        return next((adapter for adapter in shipped if adapter.base == base), None)
    adapter = Adapter.read(Path(name))
    if adapter.base != base:
        raise WeightsError(
            f"{name}: made for other weights than whisper.model; give the model that it was trained"
            " on, or train one: textpro train encoder",
            path=name,
        )
    return adapter
