"""What the unchanged model says of whole clips: the labels that speech without text gets.

Decoded once and kept beside the run, since it costs more than reading the clips.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textpro_stream.contracts import POSITION_HOP, SAMPLE_RATE
from textpro_stream.files import replacing
from textpro_stream.lora import fingerprint
from textpro_stream.train.data import Clip, as_float, load_audio
from textpro_stream.whisper.commit import CommitRule
from textpro_stream.whisper.decoding import Encode, encode
from textpro_stream.whisper.draft import View
from textpro_stream.whisper.mel import N_FFT, MelStream, normalise
from textpro_stream.whisper.segment import Drafting, Segment
from textpro_stream.whisper.whisper_pro import WhisperPro

# Positions of silence behind a clip: 5 s. After 2 s some clips loop; 30 s says the same as 5.
AFTER = 250


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """A clip and what the unchanged model says of it, whole."""

    clip: Clip
    samples: NDArray[np.int16]
    tokens: tuple[int, ...]
    positions: tuple[int, ...]  # where each attends, from the clip's start


def hear(
    model: WhisperPro, clips: Sequence[Clip], kept: Path, tell: Callable[[str], None] = print
) -> list[Spoken]:
    """Read and transcribe clips, whole; those without words are left out.

    Args:
        model: unchanged.
        clips: to hear.
        kept: JSON file of transcripts: those in it are not made again, new ones are added.
        tell: told how far it is, now and then.
    """
    base = fingerprint(model.model.encoder.conv1.weight)
    known = json.loads(kept.read_text()) if kept.exists() else {}
    known = known if known.get("base") == base else {"base": base, "clips": {}}
    longest_s = (model.model.dims.n_positions - AFTER) * POSITION_HOP / SAMPLE_RATE
    found: list[Spoken] = []
    new = 0
    for number, clip in enumerate(clips, 1):
        samples = load_audio(clip, longest_s)
        said = known["clips"].get(str(clip.audio))
        if said is None:
            said = known["clips"][str(clip.audio)] = _transcribe(model, as_float(samples))
            new += 1
            if new % 200 == 0:
                _keep(kept, known)
                tell(f"heard {number} of {len(clips)} clips")
        tokens, positions = said
        if tokens:
            found.append(Spoken(clip, samples, tuple(tokens), tuple(positions)))
    if new:
        _keep(kept, known)
    return found


def _keep(path: Path, known: object) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(known))


def whole_mel(filters: Tensor, samples: NDArray[np.float32], n: int) -> Tensor:
    """A clip's log-mel as Whisper scales it, silence behind it up to n positions, (2n, n_mels)."""
    silence = np.zeros(n * POSITION_HOP + N_FFT - len(samples), np.float32)
    frames = MelStream(filters).push(np.concatenate([samples, silence]))
    return normalise(frames, frames.max())


@torch.inference_mode()
def _transcribe(model: WhisperPro, samples: NDArray[np.float32]) -> tuple[list[int], list[int]]:
    n_heard = len(samples) // POSITION_HOP
    n = n_heard + AFTER
    slot = model.pool.take()
    encode(model.model, [Encode(slot, whole_mel(model.filters, samples, n), 0, n)])
    segment = Segment(
        slot,
        model.decoder,
        model.tokens,
        commit=CommitRule(),
        guards=None,
        drafting=Drafting(),
    )
    draft = segment.look(View(n, n_heard, True, lambda: np.zeros(0, np.float32))).draft
    return [d.token for d in draft], [d.position for d in draft]
