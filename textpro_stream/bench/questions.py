"""Questions to be heard, with the sample at which each one's speech ends.

Our own are spoken by the default voice, so the end is known exactly; a manifest brings recordings,
whose `speech_end_s` is used where it is given and estimated by the voice activity detector where
it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textpro_stream.config import Settings
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.errors import ConfigError

if TYPE_CHECKING:
    from textpro_stream.speech import Voice

LENGTHS = (2.0, 5.0, 10.0, 20.0)  # seconds of speech
TOLERANCE = 0.10  # of a length
PACES = (1.0, 0.92, 1.08)  # of the default voice's rate
AUDIBLE = 1e-3  # full scale; -60 dBFS: the voice's own pauses are exact silence

OPENINGS = ("", "so", "please", "okay", "well", "now", "also", "and")
# Each line is one question that may end at any bar. No commas: the voice makes no pause in them
# that would end a turn.
JOIN = "and one more thing"  # before a second topic, in long questions
TOPICS = (
    "can you tell me | how to bake bread | for four people | in a small oven | that is not very hot"
    " | so that the crust is crisp | and the middle stays soft | until the next morning | when my"
    " sister comes over | with both of her children | who eat nothing else | for the whole weekend"
    " | and take some home with them",
    "what should we see | in the old town | on a rainy afternoon | with two small children | who"
    " do not like museums | but love boats and trains | before we take the last bus | back to the"
    " village by the lake | where our friends are waiting | with dinner on the table | and a fire"
    " in the kitchen | because it gets cold at night",
    "how do i grow tomatoes | on my balcony | when it faces north | and gets little sun | without"
    " buying a lamp | or spending much money | before the summer begins | and the days get shorter"
    " again | so that i have enough of them | for a big pot of sauce | to share with my neighbours"
    " | at the end of the season",
    "is it a good idea | to learn the piano | at the age of fifty | if i never played before | and"
    " have only an hour each day | after a long day at work | when the house is finally quiet | and"
    " nobody needs my help | or should i rather sing | in the choir of our town | where my brother"
    " has been a member | since he left school",
    "why does the sky turn red | in the evening | when the sun goes down | behind the mountains |"
    " and why is it blue | for the rest of the day | even though the light is white | when it"
    " leaves the sun | and travels through space | to the place where we live | on a planet full of"
    " water | with a thin layer of air",
    "which train do i take | to reach the coast | before eleven tomorrow | if i start in the north"
    " | with a heavy suitcase | and cannot walk very far | from one platform to another | because"
    " i hurt my knee last week | while playing football with my son | in the park behind the"
    " station | where they mend the old clock",
)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One question."""

    id: str
    group: str  # what it is listed with, e.g. "5 s"
    text: str  # what is said; "" where nobody knows
    audio: NDArray[np.float32]  # (n,) mono, 16 kHz; begins and ends with the speech itself
    speech_end: int  # samples; where its speech ends
    label: str  # how that is known: "synthesis", "manifest" or "vad"


async def spoken_questions(
    settings: Settings, lengths: Sequence[float], each: int
) -> list[Question]:
    """So many different questions of each length, round by round: one of each, then the next.

    They differ in topic, opening words and pace; two runs get the same ones.

    Raises:
        ConfigError: there are not so many of a length, or no voice.
    """
    from textpro_stream.speech import open_voice

    voices: list[Voice] = []
    try:
        for pace in PACES:
            rate_wpm = round(settings.speech.rate_wpm * pace)
            voices.append(await open_voice(replace(settings.speech, rate_wpm=rate_wpm)))
        columns = [await _of_length(voices, length, each) for length in lengths]
    finally:
        await asyncio.gather(*(voice.close() for voice in voices))
    return [column[i] for i in range(each) for column in columns]


def recorded_questions(
    settings: Settings, manifest: Path, lengths: Sequence[float], limit: int
) -> list[Question]:
    """The clips of a manifest, each grouped with the nearest length."""
    from textpro_stream.evaluate.manifest import read_manifest
    from textpro_stream.evaluate.mix import read_audio

    questions = []
    for item in read_manifest(manifest, limit=limit):
        audio = read_audio(item.audio)
        if item.speech_end_s is None:
            end, label = last_voice(settings, audio), "vad"
        else:
            end, label = min(len(audio), round(item.speech_end_s * SAMPLE_RATE)), "manifest"
        group = group_of(nearest(end / SAMPLE_RATE, lengths))
        questions.append(Question(item.id, group, item.text, audio[:end], end, label))
    return questions


def group_of(length: float) -> str:
    """The name of a length's group."""
    return f"{length:g} s"


def nearest(length: float, lengths: Sequence[float]) -> float:
    """The length that another is listed with, by ratio."""
    return min(lengths, key=lambda candidate: abs(np.log(max(length, 0.1) / candidate)))


def last_voice(settings: Settings, audio: NDArray[np.float32]) -> int:
    """Sample at which the detector last heard a voice; the end where it heard none."""
    from textpro_stream import store
    from textpro_stream.turn import load_vad
    from textpro_stream.turn.voice import VoiceTrack

    folder = store.resolve("silero-vad", "vad") if settings.turn.vad == "silero" else None
    track = VoiceTrack(load_vad(settings.turn, folder).open(), settings.turn.threshold)
    voiced = [window.end for window in track.push(AudioChunk(audio, 0)) if window.voiced]
    return min(len(audio), voiced[-1]) if voiced else len(audio)


def trimmed(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same without the silence around it."""
    loud = np.flatnonzero(np.abs(audio) > AUDIBLE)
    return audio[loud[0] : loud[-1] + 1] if len(loud) else audio[:0]


def texts() -> list[list[str]]:
    """Openings and topics combined, each as the parts that a question may end after.

    Neighbours differ in both, so that a few of them are as different as can be.
    """
    n_topics, n_openings = len(TOPICS), len(OPENINGS)
    combined = []
    for shift, i in product(range(n_openings), range(n_topics)):
        parts = [part.strip() for part in TOPICS[i].split("|")]
        opening = OPENINGS[(i + shift) % n_openings]
        more = [part.strip() for part in TOPICS[(i + shift + 1) % n_topics].split("|")]
        join = f"{JOIN} {more[0]}"
        combined.append([f"{opening} {parts[0]}".strip(), *parts[1:], join, *more[1:]])
    return combined


async def _of_length(voices: Sequence[Voice], length: float, each: int) -> list[Question]:
    found: list[Question] = []
    candidates = ((parts, turn) for turn in range(len(voices)) for parts in enumerate(texts()))
    for (i, parts), turn in islice(candidates, len(texts()) * len(voices)):
        if len(found) == each:
            break
        voice = voices[(i + turn) % len(voices)]
        best = await _nearest(voice, parts, length)
        if best is not None:
            text, audio = best
            name = f"{length:g}s-{len(found) + 1:02d}"
            found.append(Question(name, group_of(length), text, audio, len(audio), "synthesis"))
    if len(found) < each:
        raise ConfigError(
            f"only {len(found)} different questions of {length:g} s can be made; give --each"
            f" {len(found)} or less, other --lengths, or a --manifest of your own"
        )
    return found


async def _nearest(
    voice: Voice, parts: Sequence[str], length: float
) -> tuple[str, NDArray[np.float32]] | None:
    """The beginning of a text that comes nearest to a length; None if none is near enough."""
    best, error = None, TOLERANCE
    for n_parts in range(1, len(parts) + 1):
        text = " ".join(parts[:n_parts]) + "?"
        audio = await _say(voice, text)
        spoken_s = len(audio) / SAMPLE_RATE
        if abs(spoken_s / length - 1) <= error:
            best, error = (text, audio), abs(spoken_s / length - 1)
        if spoken_s > length * (1 + TOLERANCE):
            break
    return best


async def _say(voice: Voice, text: str) -> NDArray[np.float32]:
    import soxr

    audio = np.concatenate([chunk.samples async for chunk in voice.speak(text)])
    return trimmed(np.asarray(soxr.resample(audio, voice.rate_hz, SAMPLE_RATE), np.float32))
