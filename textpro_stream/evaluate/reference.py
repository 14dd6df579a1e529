"""What the model says of a whole clip, run by `transformers`: texts and word ends to compare with.

The library's own greedy `generate` over padded 30 s windows, with its alignment of tokens to
audio. Slow (about a second a clip), so results are kept in a file beside the run where asked, and
our own offline texts with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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


class References:
    """What does not stream, and so need not be computed again: the library's texts, and ours.

    Args:
        kept: JSON file to take results from and add new ones to, or None.
        model: its name; another's results stand beside them in the same file.
        folder: of the model.
    """

    def __init__(self, kept: Path | None, model: str, folder: Path) -> None:
        self._kept, self._folder = kept, folder
        self._library, self._offline = f"{model}, library", f"{model}, offline"
        self._file: dict[str, dict[str, Any]] = {}
        if kept is not None and kept.exists():
            self._file = json.loads(kept.read_text())
        self.library = {
            name: Reference(
                entry["text"],
                tuple(TimedWord(word["text"], word["at_s"]) for word in entry["words"]),
            )
            for name, entry in self._file.get(self._library, {}).items()
        }
        self.offline: dict[str, str] = dict(self._file.get(self._offline, {}))

    def transcribe(
        self, items: Sequence[Item], read: Callable[[Path], NDArray[np.float32]]
    ) -> None:
        """Complete the library's side, for clips that fit one window.

        Args:
            items: clips; those over 30 s are left out (the library would seek by timestamps).
            read: gives a clip as mono 16 kHz.
        """
        missing = [
            item for item in items if item.id not in self.library and item.duration_s <= LONGEST_S
        ]
        if not missing:
            return
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        model = WhisperForConditionalGeneration.from_pretrained(self._folder, dtype=torch.float32)
        processor = WhisperProcessor.from_pretrained(self._folder)
        for item in missing:
            audio = read(item.audio)
            if len(audio) <= LONGEST_S * SAMPLE_RATE:
                self.library[item.id] = _reference(model, processor, audio)
        self._write()

    def keep_offline(self, name: str, text: str) -> None:
        """Add what our own offline pass made of a clip."""
        self.offline[name] = text
        self._write()

    def _write(self) -> None:
        if self._kept is None:
            return
        self._file[self._library] = {name: asdict(entry) for name, entry in self.library.items()}
        self._file[self._offline] = self.offline
        self._kept.write_text(json.dumps(self._file))


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
