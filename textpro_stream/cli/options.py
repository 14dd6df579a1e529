"""Flags that several subcommands share, and the settings that they lead to."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textpro_stream.config import Settings

# flag: (options it sets, placeholder, help)
SHORTCUTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "--asr": (("whisper.model",), "MODEL", "recognizer: tiny.en, large-v3 …, hub name or folder"),
    "--llm": (("llm.model",), "MODEL", "language model: smollm2-135m, hub name, folder or http://…/v1#MODEL"),
    "--vad": (("turn.vad",), "NAME", "voice activity detector: silero or webrtc"),
    "--voice": (("speech.voice",), "NAME", "voice of the reply, e.g. en-us or en-gb (espeak)"),
    "--speech": (("speech.engine",), "ENGINE", "what speaks: espeak, piper or none"),
    "--device": (("device.name",), "NAME", "auto, cpu, cuda or cuda:N"),
    "--dtype": (
        ("whisper.dtype", "llm.dtype"),
        "TYPE",
        "of both models: float32, bfloat16, float16 or int8",
    ),
    "--threads": (("device.threads",), "N", "CPU threads; 0 = half the cores, at most 4"),
    "--block": (("whisper.block_ms",), "MS", "audio recognized at once; less is earlier and worse"),
    "--look-ahead": (("whisper.look_ahead_ms",), "MS", "later audio that a block waits for"),
    "--eager": (("turn.eager_ms",), "MS", "silence after which the turn may be over"),
    "--silence": (("turn.silence_ms",), "MS", "least silence that ends a turn"),
    "--silence-long": (("turn.silence_long_ms",), "MS", "silence that ends any turn"),
    "--system": (("llm.system_prompt",), "TEXT", "system prompt: how the assistant behaves"),
    "--fusion": (
        ("llm.fusion",),
        "NAME",
        "how tone of voice reaches the LLM: text (not), interleave or global (need --projector)",
    ),
    "--projector": (("llm.projector",), "FILE", "trained projector for --fusion (safetensors)"),
    "--max-tokens": (("llm.max_tokens",), "N", "longest reply"),
    "--temperature": (("llm.temperature",), "T", "0 = always the likeliest word"),
    "--seed": (("llm.seed",), "N", "of sampling"),
}  # fmt: skip


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the shared flags. A subcommand may give one of them another meaning afterwards."""
    group = parser.add_argument_group("options (all of them: textpro --config-dump)")
    for flag, (_, placeholder, text) in SHORTCUTS.items():
        group.add_argument(flag, dest=f"option {flag}", metavar=placeholder, help=text)
    group.add_argument("--no-tone", action="store_true", help="tell nothing of how somebody sounds")
    group.add_argument(
        "--set",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="any option, e.g. turn.start_ms=80; may be repeated",
    )
    group.add_argument("--config", metavar="FILE", type=Path, help="TOML file with options")
    group.add_argument(
        "--config-dump",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print all options in force as TOML, and end",
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings that flags, environment and files amount to.

    Raises:
        ConfigError: something in them is unknown.
    """
    from textpro_stream.cli.settings import load_settings, parse_assignment

    flags: dict[str, object] = {}
    for flag, (keys, _, _) in SHORTCUTS.items():
        value = getattr(args, f"option {flag}", None)
        if value is not None:
            flags |= dict.fromkeys(keys, value)
    if getattr(args, "no_tone", False):
        flags["prosody.tone"] = False
    for assignment in getattr(args, "set", []):
        key, value = parse_assignment(assignment)
        flags[key] = value
    return load_settings(flags, file=getattr(args, "config", None), environ=os.environ)
