"""What the model says of a whole clip, run by `transformers`: texts and word ends to compare with.

The library's own greedy `generate` over padded 30 s windows, with its alignment of tokens to
audio. Slow (about a second a clip), so results are kept in a file beside the run where asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.evaluate.manifest import Item
from textpro_stream.evaluate.score import TimedWord

LONGEST_S = 30.1  # one window; a manifest may name no duration (0), then the audio decides


@dataclass(frozen=True, slots=True)
class Reference:
    """One clip as the library transcribes it."""

    text: str
    words: tuple[TimedWord, ...]  # with the end of each


def transcribe_references(
    folder: Path,
    items: Sequence[Item],
    read: Callable[[Path], NDArray[np.float32]],
    kept: Path | None,
) -> dict[str, Reference]:
    """References of the clips that fit one window, by id.

    Args:
        folder: the model.
        items: clips; those over 30 s are left out (the library would seek by timestamps).
        read: gives a clip as mono 16 kHz.
        kept: JSON file to take results from and add new ones to, or None.
    """
    known: dict[str, Reference] = {}
    if kept is not None and kept.exists():
        for name, entry in json.loads(kept.read_text()).items():
            words = tuple(TimedWord(word["text"], word["at_s"]) for word in entry["words"])
            known[name] = Reference(entry["text"], words)
    missing = [item for item in items if item.id not in known and item.duration_s <= LONGEST_S]
    if missing:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        processor = WhisperProcessor.from_pretrained(folder)
        for item in missing:
            audio = read(item.audio)
            if len(audio) <= LONGEST_S * SAMPLE_RATE:
                known[item.id] = _reference(model, processor, audio)
    if kept is not None and missing:
        kept.write_text(json.dumps({name: asdict(entry) for name, entry in known.items()}))
    return known


def _reference(model: object, processor: object, audio: NDArray[np.float32]) -> Reference:
    inputs = processor(  # type: ignore[operator]  # the library's processors are untyped
        audio, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True
    )
    with torch.inference_mode():
        result = model.generate(  # type: ignore[attr-defined]  # likewise
            inputs.input_features,
            attention_mask=inputs.attention_mask,
            do_sample=False,
            num_beams=1,
            return_token_timestamps=True,
            return_dict_in_generate=True,
        )
    tokenizer = processor.tokenizer  # type: ignore[attr-defined]  # likewise
    special = set(tokenizer.all_special_ids)
    ids = [int(i) for i in result["sequences"][0]]
    ends = [float(t) for t in result["token_timestamps"][0]]
    text = tokenizer.decode([i for i in ids if i not in special])
    words: list[TimedWord] = []
    for token, end in zip(ids, ends, strict=True):
        if token in special:
            continue
        piece = tokenizer.decode([token])
        if words and not piece.startswith(" "):
            words[-1] = TimedWord(words[-1].text + piece, end)
        else:
            words.append(TimedWord(piece, end))
    return Reference(text.strip(), tuple(words))
