"""What of a token tells how it was said: the vector that prosody reads.

The paper's is the middle decoder state. It knows how long and how loud a word was, and little of
the voice; lower encoder states know the voice. The decoder's own attention over the audio, computed
anyway, says which of them belong to a token, so their mean costs one product and no pass
(docs/notes/0013-prosody-vector.md). Fixed when the token is drafted, frozen when it is committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from textpro_stream.checkpoint import read_json
from textpro_stream.whisper.model import Dimensions

WHISPER_PRO = "WhisperSpeechCodecEncoder"  # the released checkpoint's class


@dataclass(frozen=True, slots=True)
class Vector:
    """Its parts, one behind the other, each as wide as the model."""

    middle: bool = True  # the middle decoder state of the step that made the token
    layers: tuple[int, ...] = ()  # encoder layers, pooled by attention; the first is 1

    @staticmethod
    def of(name: Literal["auto", "pooled", "middle"], folder: Path, dims: Dimensions) -> Vector:
        """The one that `[whisper] prosody` names.

        Args:
            name: `auto` takes the middle state for a WhisperPro, which was trained to keep it.
            folder: of the model, with its config.json.
            dims: of the model.
        """
        if name == "auto":
            trained = WHISPER_PRO in (read_json(folder / "config.json").get("architectures") or ())
            name = "middle" if trained else "pooled"
        if name == "middle":
            return Vector()
        # Halfway up the encoder: 2 of 4 layers in tiny.en, where it was measured.
        return Vector(middle=False, layers=(max(1, dims.n_encoder_layers // 2),))

    def width(self, dims: Dimensions) -> int:
        """Numbers in it."""
        return dims.d_model * (self.middle + len(self.layers))
