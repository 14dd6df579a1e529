"""What a trained projector's file holds beside it: which models it is for, and what the LLM learnt.

Its rows mean something to one LLM and are made from one recogniser's vectors; others of the same
width would be taken without a word, so the file names both. Where the LLM was trained as well, the
file has its low-rank adapters under `lora.`; they are merged when the LLM is loaded, before it is
quantised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from textpro_stream.checkpoint import Checkpoint
from textpro_stream.errors import WeightsError
from textpro_stream.llm.projector import LORA, Projector
from textpro_stream.llm.weights import ANCHOR, own_prefix
from textpro_stream.lora import Adapter, fingerprint

LLM, RECOGNISER, SCALE = "llm", "recogniser", "lora_scale"
# What the file's metadata tells that is no arrangement of rows
TOLD = frozenset({"format", LLM, RECOGNISER, SCALE, "vector"})
_ROWS = 1024  # of the embedding; all of them would be half a gigabyte in the larger models


def llm_fingerprint(checkpoint: Checkpoint) -> str:
    """Tells one LLM's weights from another's, whatever number format they are loaded in."""
    key = own_prefix(checkpoint) + ANCHOR
    return fingerprint(checkpoint.read(key, checkpoint.shape(key))[:_ROWS])


def save_trained(
    path: Path,
    projector: Projector,
    lora: Mapping[str, Tensor],
    *,
    settings: Mapping[str, str],
    llm: str,
    recogniser: str,
    vector: str,
    scale: float = 1.0,
) -> None:
    """Write a file that `[llm] projector` can name.

    Args:
        path: of the file.
        projector: it.
        lora: what the LLM learnt, by the names of `lora.lora_tensors`; may be empty.
        settings: how rows are arranged; see `textpro.py`.
        llm: `llm_fingerprint` of the LLM.
        recogniser: `WhisperPro.fingerprint` of the recogniser.
        vector: in words for people, which vector it is made from.
        scale: of the adapters.
    """
    about = {LLM: llm, RECOGNISER: recogniser, "vector": vector, SCALE: repr(scale)}
    projector.save(path, {**settings, **about}, lora=lora)


def find_adapter(file: Checkpoint) -> Adapter | None:
    """What the LLM learnt along with a projector; None where it learnt nothing."""
    tensors = {
        key.removeprefix(LORA): file.read(key, file.shape(key))
        for key in file
        if key.startswith(LORA)
    }
    if not tensors:
        return None
    told = file.metadata
    return Adapter(file.folder, told.get(LLM, ""), float(told.get(SCALE, "1.0")), tensors)


def check_made_for(file: Checkpoint, llm: Checkpoint, recogniser: str) -> None:
    """Refuse a projector of other models, where its file says which they are.

    Args:
        file: the projector's.
        llm: into which it is to be loaded.
        recogniser: `WhisperPro.fingerprint` of the one that hears; "" is not compared.

    Raises:
        WeightsError: it is another's; one line.
    """
    for_llm, for_recogniser = file.metadata.get(LLM), file.metadata.get(RECOGNISER)
    if for_llm and for_llm != llm_fingerprint(llm):
        raise WeightsError(
            f"{file.folder}: made for another LLM than {llm.folder.name}; give llm.model the one"
            " that it was trained with, or train one: textpro train slm",
            path=file.folder,
        )
    if for_recogniser and recogniser and for_recogniser != recogniser:
        raise WeightsError(
            f"{file.folder}: made for another recogniser's vectors (whisper.model or"
            " whisper.prosody differs); train it again: textpro train slm",
            path=file.folder,
        )
