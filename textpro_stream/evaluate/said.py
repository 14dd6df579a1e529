"""Clips whose tone is labelled, as the recogniser hears them in blocks: manifests, states, sound.

A manifest is JSONL, one clip a line: `id`, `audio` (a path beside it), `speaker`, `emotion`; and
where they are known `source` (the corpus is what it says before a bracket), `split`, `licence`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, TokenSpan, Transcript, seconds
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.evidence import tell_progress
from textpro_stream.evaluate.manifest import read_entries, spread
from textpro_stream.evaluate.mix import read_audio
from textpro_stream.prosody.acoustics import Acoustics
from textpro_stream.prosody.turn_tone import levels_db, rise

if TYPE_CHECKING:
    from textpro_stream.whisper import WhisperPro

Floats = NDArray[np.float32]
Change = Callable[[Floats], Floats]

PLAIN = ""  # the label of speech for which nobody named an emotion
PLAIN_S = 8  # seconds of such a clip that are heard
GROUP = 5  # tokens of a window, as it is in speech
_PUSHED = 3200  # samples at a time; changes nothing
_SAVED_EVERY = 50
N_ACOUSTICS = 8


@dataclass(frozen=True, slots=True)
class Labelled:
    """One line of a manifest."""

    id: str
    audio: Path
    speaker: str
    emotion: str
    corpus: str
    split: str
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """A clip as it was heard."""

    clip: Labelled
    states: Floats  # (n, d_prosody), one a token; n may be 0
    ids: tuple[int, ...]  # the tokens
    acoustics: Floats  # (N_ACOUSTICS,): what needs no recogniser but for the pace

    def mean(self, n: int | None = None) -> Floats:
        """Of the first n tokens' states; of all."""
        found: Floats = self.states[:n].mean(axis=0)
        return found

    def groups(self) -> list[Floats]:
        """Means of all the tokens and of each five that follow each other, as windows have them."""
        whole = [self.mean()]
        if len(self.states) < 2 * GROUP:
            return whole
        starts = range(0, len(self.states) - GROUP + 1, GROUP)
        return [*whole, *(self.states[at : at + GROUP].mean(axis=0) for at in starts)]


def read_labelled(
    path: Path,
    splits: frozenset[str] = frozenset(),
    labels: Sequence[str] = (),
    plain: int = 0,
) -> list[Labelled]:
    """The clips of a manifest that name an emotion, and some that do not.

    Args:
        path: of the manifest.
        splits: keep only these; empty keeps all.
        labels: emotions that are known; empty: any.
        plain: so many of the others, spread evenly; they are `PLAIN`.

    Raises:
        ConfigError: the file cannot be read or has faults; lists them by line.
    """
    clips: list[Labelled] = []
    others: list[Labelled] = []
    for number, entry in read_entries(
        path,
        needs=("speaker",),
        labels={"emotion": labels} if labels else None,
        counts=lambda entry: bool(entry.get("emotion")) or plain > 0,
    ):
        split = str(entry.get("split") or "")
        if not splits or split in splits:
            corpus = str(entry.get("source") or "").partition("(")[0].strip() or path.stem
            audio = path.parent / entry["audio"]
            emotion = str(entry.get("emotion") or PLAIN)
            clip = Labelled(entry["id"], audio, entry["speaker"], emotion, corpus, split, number)
            (others if emotion == PLAIN else clips).append(clip)
    if not clips:
        raise ConfigError(f"manifest {path}: no clips with an emotion; a line needs one")
    return [*clips, *(spread(others, plain) if plain else ())]


def hear(
    clips: Sequence[Labelled],
    whisper: WhisperPro,
    *,
    name: str,
    cache: Path | None = None,
    change: Change | None = None,
) -> list[Said]:
    """Clips through the streaming recogniser, those without words included.

    Args:
        clips: to hear.
        whisper: shared.
        name: what the states depend on: another one, and the cache is made anew.
        cache: file (.npz) of what was heard before; written again while it grows.
        change: what is done to the sound first.
    """
    known = _read(cache, name) if cache is not None and cache.is_file() else {}
    missing = [clip for clip in clips if clip.id not in known]
    for i, clip in enumerate(missing, 1):
        samples = read_audio(clip.audio)
        if clip.emotion == PLAIN:
            samples = samples[: PLAIN_S * SAMPLE_RATE]
        known[clip.id] = _hear(samples if change is None else change(samples), whisper)
        if i % _SAVED_EVERY == 0 or i == len(missing):
            tell_progress(i, len(missing))
            if cache is not None:
                _write(cache, name, known)
    return [Said(clip, *known[clip.id]) for clip in clips]


_Heard = tuple[Floats, tuple[int, ...], Floats]


def _hear(samples: Floats, whisper: WhisperPro) -> _Heard:
    import torch

    with torch.inference_mode():
        recognizer = whisper.open()
        transcripts: list[Transcript] = []
        for at in range(0, len(samples), _PUSHED):
            transcripts += recognizer.push(AudioChunk(samples[at : at + _PUSHED], at))
        transcripts += recognizer.finish()
    spans = [span for transcript in transcripts for span in transcript.committed]
    states = [span.states.numpy() for span in spans if span.states is not None]
    none = np.zeros((0, whisper.d_prosody), np.float32)
    ids = tuple(token for span in spans for token in span.ids)
    # As the cache keeps them, so that a second run finds the same.
    rounded = np.concatenate([none, *states]).astype(np.float16).astype(np.float32)
    return rounded, ids, _acoustics(samples, spans)


def _acoustics(samples: Floats, spans: Sequence[TokenSpan]) -> Floats:
    """Pitch: median, spread, last against rest. Level: mean, spread. Voiced share, pace, length."""
    found = Acoustics()
    found.push(np.concatenate([samples, np.zeros(800, np.float32)]))
    sound = found.between(0, len(samples))
    voiced = sound.f0_hz > 0
    if not voiced.any():
        return np.zeros(N_ACOUSTICS, np.float32)
    tones = 12 * np.log2(sound.f0_hz[voiced] / 100)
    levels = levels_db(sound)
    talk_s = seconds(spans[-1].end - spans[0].start) if spans else 0.0
    return np.array(
        [
            np.median(tones),
            np.subtract(*np.percentile(tones, [90, 10])),
            rise(sound) or 0.0,
            levels.mean(),
            levels.std(),
            voiced.mean(),
            len(spans) / max(talk_s, 0.2),
            seconds(len(samples)),
        ],
        np.float32,
    )


def _write(path: Path, name: str, known: dict[str, _Heard]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"name": name, "clips": [[key, list(ids)] for key, (_, ids, _) in known.items()]}
    with path.open("wb") as file:
        np.savez(
            file,
            told=np.array(json.dumps(told)),
            counts=np.array([len(states) for states, _, _ in known.values()]),
            states=np.concatenate([states for states, _, _ in known.values()]).astype(np.float16),
            acoustics=np.array([numbers for _, _, numbers in known.values()], np.float32),
        )


def _read(path: Path, name: str) -> dict[str, _Heard]:
    with np.load(path) as stored:
        told = json.loads(str(stored["told"]))
        if told["name"] != name:
            return {}
        ends = np.cumsum(stored["counts"])
        states = np.split(stored["states"].astype(np.float32), ends[:-1])
        rows = zip(told["clips"], states, stored["acoustics"], strict=True)
        return {key: (own, tuple(ids), numbers) for (key, ids), own, numbers in rows}
