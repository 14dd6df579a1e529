"""Requests with pauses inside, read by espeak-ng: what real orders hardly contain.

People stop in the middle of a telephone number, of a name that they spell, of a list, after "um"
and before they say it anew. Few recordings that may be used show it. Here the words say where a
turn is open, so every label is known. To be trained on beside real talk, never to be judged by
alone: a synthetic voice does not hesitate, it is only cut.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from textpro_stream.audio.resample import Resampler
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.speech.espeak import Espeak

SYNTHETIC = "synthetic"  # how kinds of these requests begin

# Accents and timbres that tiny.en understands; the last two read the held-out requests only.
_VOICES = (
    "en-us+edward2",
    "en-us+f2",
    "en-gb+m3",
    "en-gb+belinda",
    "en-us+steph",
    "en-us+john",
    "en-gb-x-rp+f4",
    "en-us+Michael",
)
_HELD_OUT_VOICES = ("en-gb-scotland+f5", "en-us+m7")
_HOLD_S, _HOLD_SPREAD = 0.55, 0.5  # median, and deviation of its logarithm: as in real calls
_FLOOR = 10 ** (-62 / 20)  # background, RMS: a quiet room behind a headset

_NAMES = ("Katz", "Moreau", "Nguyen", "Patel", "Schmidt", "Olsen", "Garcia", "Whitby", "Yilmaz")
_THINGS = ("eggs", "oat milk", "bread", "two onions", "rice", "a lemon", "butter", "black tea")
_TASKS = (
    ("book a table", "for four people", "tomorrow at seven"),
    ("play something", "by Miles Davis", "in the kitchen"),
    ("send a message", "to my brother", "that I will be late"),
    ("find a train", "from Leeds to York", "on Friday morning"),
    ("set the heating", "in the bedroom", "to nineteen degrees"),
    ("order a pizza", "with mushrooms", "and extra cheese"),
    ("remind me", "to call the dentist", "after lunch"),
    ("turn off the lights", "in the hall", "and lock the door"),
)
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# A turn; between two of them its speaker pauses. Behind one that ends with a full stop nobody could
# know that more will come.
Pieces = list[str]


def _number(rng: np.random.Generator) -> Pieces:
    def group(n: int) -> str:
        return " ".join(_DIGITS[d] for d in rng.integers(0, 10, n))

    begin = str(rng.choice(["My number is", "You can reach me at", "The order number is"]))
    sizes = [[3, 4], [3, 3, 4], [2, 2, 2], [4, 4]][rng.integers(4)]
    first, *others = [group(n) for n in sizes]
    joined = rng.random() < 0.5
    return [f"{begin} {first}", *others] if joined else [begin, first, *others]


def _spelling(rng: np.random.Generator) -> Pieces:
    name = str(rng.choice(_NAMES))
    letters = list(name.upper())
    at = int(rng.integers(1, len(letters)))
    begin = str(rng.choice(["My name is", "It is under", "The name is"]))
    parts = [" ".join(letters[:at]), " ".join(letters[at:])]
    return (
        [f"{begin} {name}", *parts]
        if rng.random() < 0.5
        else [f"{begin} {name}, {parts[0]}", parts[1]]
    )


def _list(rng: np.random.Generator) -> Pieces:
    things = [str(thing) for thing in rng.permutation(_THINGS)[: int(rng.integers(3, 5))]]
    begin = str(rng.choice(["I need", "Please add", "Put on my list"]))
    return [f"{begin} {things[0]}", *things[1:-1], f"and {things[-1]}"]


def _hesitation(rng: np.random.Generator) -> Pieces:
    task, middle, end = _TASKS[rng.integers(len(_TASKS))]
    um = str(rng.choice(["um", "uh", "hmm", "er"]))
    ask = str(rng.choice(["I would like you to", "Can you", "Could you please", "Please"]))
    return [
        [f"{ask} {task}, {um}", f"{middle} {end}"],
        [ask, f"{um}, {task} {middle}.", end],
        [f"{ask} {task} {middle}, {um}", end],
    ][rng.integers(3)]


def _restart(rng: np.random.Generator) -> Pieces:
    task, middle, end = _TASKS[rng.integers(len(_TASKS))]
    other = _TASKS[rng.integers(len(_TASKS))][0]
    return [f"Can you {other}, no", f"wait, {task} {middle}.", end]


def _fluent(rng: np.random.Generator) -> Pieces:
    ask = str(rng.choice(["Can you", "Please", "I want you to"]))
    return [f"{ask} {' '.join(_TASKS[rng.integers(len(_TASKS))])}"]


_KINDS: tuple[Callable[[np.random.Generator], Pieces], ...] = (
    _number,
    _spelling,
    _list,
    _hesitation,
    _restart,
    _fluent,
)


def make_turns(folder: Path, n: int, seed: int = 0) -> Path:
    """Read n requests aloud, one in five by a voice that only held-out ones have.

    What stands in the folder already is left as it is: espeak-ng never reads twice alike.

    Args:
        folder: gets the audio and `pauses.jsonl`, as `evaluate/turns.py` describes it.
        n: requests.
        seed: of all that is drawn.

    Returns:
        The manifest.

    Raises:
        ConfigError: espeak-ng is not there.
    """
    manifest = folder / "pauses.jsonl"
    if manifest.is_file():
        return manifest
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for i in range(n):
        rng = np.random.default_rng((seed, i))
        held_out = i % 5 == 4
        voices = _HELD_OUT_VOICES if held_out else _VOICES
        voice = voices[int(rng.integers(len(voices)))]
        make = _KINDS[i % len(_KINDS)]
        pieces = make(rng)
        name = f"{i:04d}-{make.__name__.strip('_')}.wav"
        samples, pauses = _read(pieces, Espeak(voice), rng)
        _write(folder / name, samples)
        for k, (start_s, end_s) in enumerate(pauses):
            sentence = end_s is not None and pieces[k].endswith(".")
            entry = {
                "id": f"{name}#{k}",
                "audio": name,
                "speaker": voice,
                "source": "espeak-ng",
                "kind": f"{SYNTHETIC} {make.__name__.strip('_')}",
                "turn_start_s": 0.3,
                "pause_start_s": round(start_s, 3),
                "pause_end_s": None if end_s is None else round(end_s, 3),
                "label": "end" if end_s is None else "hold",
                "boundary": "sentence" if sentence else None,
                "split": "dev" if held_out else "train",
            }
            lines.append(json.dumps(entry) + "\n")
    manifest.write_text("".join(lines))
    return manifest


def _read(
    pieces: Sequence[str], voice: Espeak, rng: np.random.Generator
) -> tuple[NDArray[np.float32], list[tuple[float, float | None]]]:
    """A turn's audio, and its pauses in seconds."""
    parts = [np.zeros(round(0.3 * SAMPLE_RATE), np.float32)]
    rate_wpm = int(rng.integers(140, 186))
    pauses: list[tuple[float, float | None]] = []
    for k, piece in enumerate(pieces):
        last = k == len(pieces) - 1
        # A comma keeps the pitch up; without one the voice falls as at an end: both happen.
        mark = "." if last or rng.random() < 0.4 else ","
        spoken = piece if piece.endswith(".") else piece + mark
        parts.append(_trimmed(_say(voice, spoken, rate_wpm)))
        start_s = sum(map(len, parts)) / SAMPLE_RATE
        silence_s = float(np.clip(_HOLD_S * np.exp(_HOLD_SPREAD * rng.normal()), 0.3, 2.0))
        parts.append(np.zeros(round((0.5 if last else silence_s) * SAMPLE_RATE), np.float32))
        pauses.append((start_s, None if last else start_s + silence_s))
    samples = np.concatenate(parts)
    return samples + np.float32(_FLOOR) * rng.normal(size=len(samples)).astype(np.float32), pauses


def _say(voice: Espeak, text: str, rate_wpm: int) -> NDArray[np.float32]:
    heard: list[bytes] = []

    def take(audio: bytes) -> bool:
        heard.append(audio)
        return True

    voice.speak(text, False, rate_wpm, take, lambda sample, character: None)
    samples = np.frombuffer(b"".join(heard), np.int16).astype(np.float32) / np.float32(32768)
    resampler = Resampler(voice.rate_hz)
    return np.concatenate([resampler.push(samples), resampler.finish()])


def _trimmed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without the silence at both ends."""
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def _write(path: Path, samples: NDArray[np.float32]) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
