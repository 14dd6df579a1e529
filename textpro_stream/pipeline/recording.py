"""A conversation written down as it was told, and told again: for bug reports and tests.

A folder holds `recording.json` (settings, versions), `audio.wav` (float32, 16 kHz) and
`commands.jsonl`: one line for each chunk of audio and each command, in their order, with the second
at which it came. Told again to the same models, a conversation says the same: all that it decides
depends on the audio clock. Where somebody listened (`live`), what was heard of an interrupted reply
depends on the machine's pace as well, so a live recording is told at the pace at which it came.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import textpro_stream
from textpro_stream.commands import Announce, Command, Respond, Say
from textpro_stream.config import Settings
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk
from textpro_stream.errors import ConfigError, WireError
from textpro_stream.ports import Clock, Talk
from textpro_stream.wire import command_from_json, command_to_json, value_from_json, value_to_json

FORM = 1  # of the folder
ABOUT, AUDIO, COMMANDS = "recording.json", "audio.wav", "commands.jsonl"
SECTIONS = ("whisper", "prosody", "llm", "turn", "speech")  # that decide what is said


class Recorder(AbstractContextManager["Recorder"]):
    """Writes down what a conversation is told.

    Args:
        folder: made where it is missing; it must hold no recording yet.
        settings: of the conversation.
        live: somebody listens.
        clock: says when things come.

    Raises:
        ConfigError: the folder cannot be written, or holds a recording.
    """

    def __init__(self, folder: Path, settings: Settings, *, live: bool, clock: Clock) -> None:
        import soundfile

        if (folder / ABOUT).exists():
            raise ConfigError(f"--record {folder}: holds a recording already; name another folder")
        sections = {name: value_to_json(getattr(settings, name)) for name in SECTIONS}
        version = textpro_stream.__version__
        about = {"form": FORM, "version": version, "live": live, "settings": sections}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
            self._lines = (folder / COMMANDS).open("w", encoding="utf-8")
            self._audio = soundfile.SoundFile(
                folder / AUDIO, "w", SAMPLE_RATE, channels=1, subtype="FLOAT", format="WAV"
            )
        except OSError as error:
            raise ConfigError(
                f"--record {folder}: cannot be written ({error.strerror}); name another folder"
            ) from None
        self._clock, self._began = clock, clock.now()

    def note(self, item: AudioChunk | Command) -> None:
        """It was told this."""
        if self._lines.closed:
            return
        if isinstance(item, AudioChunk):
            self._audio.write(item.samples)
            line: dict[str, Any] = {"type": "audio", "start": item.start, "n": len(item.samples)}
        else:
            line = command_to_json(item)
        wall_s = round(self._clock.now() - self._began, 4)
        self._lines.write(json.dumps({"wall_s": wall_s, **line}, ensure_ascii=False) + "\n")
        self._lines.flush()  # what came before a crash is what a bug report is about

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._audio.close()


@dataclass(frozen=True, slots=True)
class Recording:
    """What a conversation was told.

    Attributes:
        live: somebody listened.
        settings: that were in force, laid over those it is told with: device and server are ours.
        items: with the second at which each came.
    """

    live: bool
    settings: Settings
    items: tuple[tuple[float, AudioChunk | Command], ...]

    @property
    def turns(self) -> frozenset[int]:
        """Turn numbers that its commands bring along."""
        commands = (item for _, item in self.items)
        return frozenset(c.turn for c in commands if isinstance(c, Say | Respond | Announce))

    async def tell(self, talk: Talk, clock: Clock) -> None:
        """Tell it to a conversation, a live one at its pace."""
        began = clock.now()
        for wall_s, item in self.items:
            if self.live:
                await clock.sleep_until(began + wall_s)
            await talk.push(item)


def read_recording(folder: Path, settings: Settings) -> Recording:
    """What a `Recorder` wrote.

    Args:
        folder: that holds it.
        settings: for what a recording does not hold.

    Raises:
        ConfigError: there is none, or it is damaged; one line says where.
    """
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        samples = _samples(folder / AUDIO)
        lines = (folder / COMMANDS).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        name = Path(error.filename or "").name
        raise ConfigError(f"{folder}: no recording ({name}: {error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"{folder}/{ABOUT}: not JSON ({error})") from None
    if about.get("form") != FORM:
        raise ConfigError(f"{folder}: a recording of another version ({about.get('version')})")
    try:
        items = tuple(_items(lines, samples))
        recorded = {
            name: value_from_json(type(getattr(settings, name)), value, name)
            for name, value in about["settings"].items()
        }
    except (WireError, KeyError, ValueError) as error:
        raise ConfigError(f"{folder}: a damaged recording ({error})") from None
    known = {field.name for field in fields(Settings)}
    used = {k: v for k, v in recorded.items() if k in known}
    return Recording(bool(about["live"]), replace(settings, **used), items)


def _samples(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    import soundfile

    try:
        samples, _ = soundfile.read(path, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    return np.asarray(samples, np.float32)


def _items(
    lines: list[str], samples: np.ndarray[Any, np.dtype[np.float32]]
) -> Iterator[tuple[float, AudioChunk | Command]]:
    read = 0
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            wall_s = float(value.pop("wall_s"))
            if value["type"] == "audio":
                start, n = int(value["start"]), int(value["n"])
                yield wall_s, AudioChunk(samples[read : read + n], start)
                read += n
            else:
                yield wall_s, command_from_json(value)
        except (ValueError, KeyError, TypeError, WireError) as error:
            raise WireError(f"{COMMANDS} line {number}: {error}") from None
