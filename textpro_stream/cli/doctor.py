"""`textpro doctor`: what this machine has, what will be used, what is missing and how to get it."""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from textpro_stream.config import Settings
from textpro_stream.errors import DeviceError, TextproError

State = Literal["ok", "note", "missing"]
SIGNS: dict[State, str] = {"ok": "ok  ", "note": "note", "missing": "MISS"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis."""

    state: State
    about: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`doctor` takes the shared options only: it examines what they would use."""


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print the diagnosis; 1 if something that `textpro demo` needs is missing."""
    n_missing = 0
    for finding in examine(settings):
        n_missing += finding.state == "missing"
        print(f"{SIGNS[finding.state]}  {finding.about:<11} {finding.text}", flush=True)
    print("\nready: textpro demo" if not n_missing else f"\n{n_missing} missing, see above")
    return 1 if n_missing else 0


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at one thing after another; a check that fails is a finding, never an end."""
    checks: list[tuple[str, Callable[[Settings], Finding]]] = [
        ("python", _python),
        ("torch", _torch),
        ("device", _device),
        ("recognizer", _recognizer),
        ("LLM", _llm),
        ("VAD", _vad),
        ("tone", _tone),
        ("voice", _voice),
        ("sound", _sound),
        ("cache", _cache),
    ]
    for about, check in checks:
        try:
            yield check(settings)
        except TextproError as error:
            yield Finding("missing", about, str(error))
        except Exception as error:
            yield Finding("missing", about, f"{type(error).__name__}: {error}")


def _python(settings: Settings) -> Finding:
    version = platform.python_version()
    return Finding("ok", "python", f"{version} on {platform.system()} {platform.machine()}")


def _torch(settings: Settings) -> Finding:
    return Finding("ok", "torch", importlib.metadata.version("torch"))


def _device(settings: Settings) -> Finding:
    from textpro_stream.runtime.hardware import physical_cores, torch_device

    device = torch_device(settings.device)
    import torch

    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        name = torch.cuda.get_device_name(device)
        return Finding("ok", "device", f"{device}: {name}, {memory:.0f} GiB")
    text = f"cpu: {torch.get_num_threads()} threads of {physical_cores()} cores"
    return Finding("ok", "device", f"{text}, {os.cpu_count()} logical; no GPU used")


def _recognizer(settings: Settings) -> Finding:
    return _model("recognizer", settings.whisper.model, "whisper")


def _llm(settings: Settings) -> Finding:
    if settings.llm.is_remote:
        return Finding("ok", "LLM", asyncio.run(_ask_remote(settings)))
    return _model("LLM", settings.llm.model, "llm")


async def _ask_remote(settings: Settings) -> str:
    from textpro_stream.llm.remote import open_remote

    engine = open_remote(settings.llm)
    assert engine is not None, "asked only where the LLM is behind a URL"
    try:
        return await engine.check()
    finally:
        await engine.close()


def _vad(settings: Settings) -> Finding:
    if settings.turn.vad == "webrtc":
        import webrtcvad

        return Finding("ok", "VAD", f"webrtc, built in ({webrtcvad.__name__})")
    return _model("VAD", "silero-vad", "vad")


def _model(about: str, name: str, kind: Literal["whisper", "llm", "vad"]) -> Finding:
    from textpro_stream import store

    folder = store.resolve(name, kind, pull=False)
    return Finding("ok", about, f"{name} in {folder}")


def _tone(settings: Settings) -> Finding:
    from textpro_stream import store

    fusion = settings.llm.fusion
    if not settings.prosody.tone:
        return Finding("note", "tone", "of voice is switched off (prosody.tone)")
    if fusion == "auto" and settings.llm.is_remote:
        fusion = "text"
    elif fusion == "auto":
        folder = store.resolve(settings.llm.model, "llm", pull=False)
        trained = settings.llm.projector or (folder / "textpro_config.json").exists()
        fusion = "auto" if trained else "tags"
    match fusion:
        case "text":
            text = "tone of voice is measured and shown; the LLM is not told (--fusion tags)"
            return Finding("note", "tone", text)
        case "tags":
            text = "reaches the LLM in words where it is sure: (I sound angry.)"
            return Finding("ok", "tone", text)
        case _:
            return Finding("ok", "tone", f"reaches the LLM: {fusion} fusion, by its projector")


def _voice(settings: Settings) -> Finding:
    from textpro_stream.speech import open_voice

    if settings.speech.engine == "none":
        return Finding("note", "voice", "none: replies are text only (--speech espeak)")

    async def try_it() -> int:
        voice = await open_voice(settings.speech)
        await voice.close()
        return voice.rate_hz

    rate_hz = asyncio.run(try_it())
    text = f"{settings.speech.engine} {settings.speech.voice}, {rate_hz} Hz"
    return Finding("ok", "voice", text)


def _sound(settings: Settings) -> Finding:
    from textpro_stream.audio.devices import choose
    from textpro_stream.audio.portaudio import PortAudio

    try:
        devices = PortAudio().devices()
        microphone = choose(devices, "", "microphone")
        loudspeaker = choose(devices, "", "loudspeaker")
    except DeviceError as error:  # only `talk` needs it
        return Finding("note", "sound", f"{error} (only `textpro talk` needs it)")
    return Finding("ok", "sound", f"{microphone.name} -> {loudspeaker.name}")


def _cache(settings: Settings) -> Finding:
    import shutil

    from textpro_stream import store

    root = store.cache_root()
    present = [entry for entry in store.entries() if entry.present]
    there = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    used = sum(entry.size for entry in present) / 1e6
    return Finding(
        "ok", "cache", f"{root}: {len(present)} models, {used:.0f} MB; {free:.0f} GB free"
    )
