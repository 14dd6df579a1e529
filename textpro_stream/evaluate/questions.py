"""Questions with options: from a manifest, from the files of others, and aloud.

    {"id": "q1", "question": "What do bees make?", "options": ["honey", "wool"], "answer": "A"}

`answer` is a letter. May be there: `audio`, a recording of the question, beside the manifest;
without it our voices read it out. Understood as well: `choices` for `options`, the original lines
of ARC and OpenBookQA (`question.stem`, `answerKey`), and a folder of VoiceBench: its
`metadata.jsonl` has `file_name`, `prompt` (question and options, as read out) and `reference`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textpro_stream.config import SpeechOptions
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.manifest import Entry, Sound, read_entries
from textpro_stream.speech import Voice, open_voice

OURS = Path(__file__).parents[1] / "assets" / "questions.jsonl"
# Of espeak-ng's, those that Whisper over the whole clip understands best: see docs/evaluation.md.
VOICES = ("en-gb+edward2", "en-us+f2", "en-us+m7")
RECORDED = "recorded"
BEFORE, AFTER = SAMPLE_RATE // 4, SAMPLE_RATE  # samples of silence around a voice of ours

_LETTERS = string.ascii_uppercase
_METADATA = "metadata.jsonl"
_MARK = re.compile(r"(?:^|(?<=\s))\(?([A-Z])[.):]\s")  # "A. ", "B) ", "(C) "


@dataclass(frozen=True, slots=True)
class Question:
    """One question and the replies to choose from."""

    id: str
    text: str  # as it is asked
    options: tuple[str, ...]
    answer: int  # of the options
    audio: Path | None = None  # None: nobody recorded it


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """A question as it is heard."""

    question: Question
    voice: str  # its name, or `RECORDED`
    samples: NDArray[np.float32]  # (n,) mono, 16 kHz


def read_questions(path: Path) -> list[Question]:
    """The questions of a manifest, or of a folder of VoiceBench and its subsets.

    Raises:
        ConfigError: it cannot be read or has faults; lists them by line.
    """
    if not path.is_dir():
        return _read(path, "")
    found = sorted(path.rglob(_METADATA))
    if not found:
        raise ConfigError(f"{path}: no {_METADATA} in this folder; docs/evaluation.md tells of it")
    return [one for each in found for one in _read(each, each.parent.name)]


def _read(path: Path, subset: str) -> list[Question]:
    translate = partial(_from_voicebench, subset) if subset else _from_others
    sound: Sound = "needed" if subset else "optional"
    entries = read_entries(path, sound=sound, check=_wrong, translate=translate)
    if not entries:
        raise ConfigError(f"manifest {path}: no questions; a line needs question, options, answer")
    return [
        Question(
            entry["id"],
            entry["question"].strip(),
            tuple(option.strip() for option in entry["options"]),
            _LETTERS.index(entry["answer"]),
            path.parent / entry["audio"] if entry.get("audio") else None,
        )
        for _, entry in entries
    ]


def _wrong(entry: Entry) -> str:
    question, options = entry.get("question"), entry.get("options")
    if not isinstance(question, str) or not question.strip():
        return "no question"
    if not isinstance(options, list) or len(options) < 2:
        return "no options: two or more are needed"
    if not all(isinstance(option, str) and option.strip() for option in options):
        return "an option is empty or no text"
    if len({option.strip() for option in options}) < len(options):
        return "two options are the same"
    letters = _LETTERS[: len(options)]
    if not isinstance(entry.get("answer"), str) or entry["answer"] not in [*letters]:
        return f"answer {entry.get('answer')!r} is none of {', '.join(letters)}"
    return ""


def _from_others(number: int, entry: Entry) -> Entry:
    """Lines of ARC and OpenBookQA, original or with `choices`; ours as they are."""
    question = entry.get("question")
    if isinstance(question, dict) and isinstance(question.get("choices"), list):
        choices = [c for c in question["choices"] if isinstance(c, dict)]
        labels = [choice.get("label") for choice in choices]
        key = entry.get("answerKey")  # a letter, in some of ARC a digit
        return {
            **entry,
            "question": question.get("stem"),
            "options": [choice.get("text") for choice in choices],
            "answer": _LETTERS[labels.index(key)] if key in labels else key,
        }
    if "options" not in entry and "choices" in entry:
        return {**entry, "options": entry["choices"]}
    return entry


def _from_voicebench(subset: str, number: int, entry: Entry) -> Entry:
    prompt = entry.get("prompt")
    told: dict[str, Any] = {"id": f"{subset}-{number}", "audio": entry.get("file_name")}
    if not isinstance(prompt, str):
        return told
    options = _options_of(prompt)
    return told | {"question": prompt, "options": options, "answer": entry.get("reference")}


def _options_of(prompt: str) -> list[str]:
    """What stands behind "A.", "B." and so on."""
    marks: list[re.Match[str]] = []
    for mark in _MARK.finditer(prompt):
        if mark[1] == _LETTERS[len(marks)]:
            marks.append(mark)
    ends = [mark.start() for mark in marks[1:]] + [len(prompt)] * bool(marks)
    return [prompt[mark.end() : end].strip(" \n;,") for mark, end in zip(marks, ends, strict=True)]


async def speak_all(
    questions: Sequence[Question], options: SpeechOptions, voices: Sequence[str]
) -> dict[str, list[Spoken]]:
    """Each question that nobody recorded in each voice, by its id.

    Raises:
        ConfigError: espeak-ng is not there, or has no such voice.
    """
    spoken: dict[str, list[Spoken]] = {one.id: [] for one in questions}
    for name in voices if questions else ():
        voice = await open_voice(replace(options, engine="espeak", voice=name))
        try:
            for question in questions:
                samples = await _say(voice, question.text)
                spoken[question.id].append(Spoken(question, name, samples))
        finally:
            await voice.close()
    return spoken


async def _say(voice: Voice, text: str) -> NDArray[np.float32]:
    """Between silences, so that a turn ends as it does with people."""
    import soxr

    chunks = [chunk.samples async for chunk in voice.speak(text)]
    if not chunks:
        raise ConfigError(f"the voice finds nothing to say in {text!r}; write it in words")
    audio = soxr.resample(np.concatenate(chunks), voice.rate_hz, SAMPLE_RATE)
    quiet = [np.zeros(n, np.float32) for n in (BEFORE, AFTER)]
    return np.concatenate([quiet[0], np.asarray(audio, np.float32), quiet[1]])
