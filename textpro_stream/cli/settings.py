"""Settings from four places: defaults, a TOML file, the environment, flags. Later ones win.

Everything is read off the dataclasses of `config.py`: a new option there is at once a TOML key,
a `TEXTPRO_SECTION__KEY` variable and a `--set section.key=value`. Unknown names and values fail
with the nearest known one. Knows nothing of what an option does.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from textpro_stream.cli.words import nearest
from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError

PREFIX = "TEXTPRO_"

# Never given on a command line, which every user of the machine can read, and never printed.
SECRET = ("llm.api_key", "server.api_key", "server.mqtt_password")

BOUNDS: dict[str, tuple[float, float]] = {  # least and greatest value that makes sense
    "whisper.block_ms": (160, 5000),
    "whisper.look_ahead_ms": (0, 5000),
    "prosody.window_ms": (200, 30_000),
    "prosody.hop_ms": (100, 30_000),
    "llm.max_tokens": (1, 4096),
    "llm.temperature": (0, 10),
    "llm.top_p": (0, 1),
    "llm.repetition_penalty": (0.1, 10),
    "llm.seed": (0, 2**63 - 1),
    "llm.context": (128, 1_000_000),
    "turn.threshold": (0, 1),
    "turn.start_ms": (20, 2000),
    "turn.preroll_ms": (0, 5000),
    "turn.eager_ms": (20, 10_000),
    "turn.silence_ms": (20, 10_000),
    "turn.silence_long_ms": (20, 30_000),
    "speech.rate_wpm": (80, 450),
    "device.threads": (0, 256),
    "server.port": (0, 65_535),
    "server.max_sessions": (1, 10_000),
    "server.max_sessions_per_ip": (0, 10_000),
    "server.max_late_s": (0.0, 60.0),
    "server.idle_s": (1, 1_000_000),
    "server.rest_s": (0.1, 1_000_000),
    "server.session_s": (1, 1_000_000),
    "server.message_bytes": (1024, 2**30),
    "server.audio_speed": (1, 1000),
    "server.audio_burst_s": (1, 3600),
    "server.events_per_s": (1, 100_000),
    "server.errors_in_a_row": (1, 1000),
    "server.outgoing_bytes": (65_536, 2**30),
    "server.outgoing_s": (0.1, 600),
    "server.drain_s": (0, 600),
}


@cache
def known_keys() -> dict[str, Any]:
    """Every option as `section.key`, with its type."""
    keys = {}
    for section in fields(Settings):
        options = get_type_hints(Settings)[section.name]
        for name, hint in get_type_hints(options).items():
            keys[f"{section.name}.{name}"] = hint
    return keys


def load_settings(
    flags: Mapping[str, object],
    *,
    file: Path | None = None,
    environ: Mapping[str, str],
) -> Settings:
    """Put the four places together.

    Args:
        flags: option -> value, as given on the command line.
        file: `--config`; without it `./textpro.toml`, then the one in the user's config folder.
        environ: the environment.

    Raises:
        ConfigError: a file that cannot be read, a name or a value that does not exist.
    """
    values: dict[str, object] = {}
    for path in [file] if file else _usual_files(environ):
        if file or path.is_file():
            values |= _from_file(path)
            break
    values |= _from_environment(environ)
    for key, value in flags.items():
        values[key] = value_of(key, value, key)
    settings = Settings()
    for key, value in values.items():
        section, name = key.split(".")
        options = replace(getattr(settings, section), **{name: value})
        settings = replace(settings, **{section: options})
    return settings


def dump_settings(settings: Settings) -> str:
    """The same settings as TOML that loads back."""
    lines = ["# textpro.toml: all options with the values in force. `textpro --help` explains."]
    for section in fields(settings):
        lines += ["", f"[{section.name}]"]
        options = getattr(settings, section.name)
        for option in fields(options):
            key = f"{section.name}.{option.name}"
            if key in SECRET:
                continue
            choices = _choices(known_keys()[key])
            note = f"  # {' | '.join(choices)}" if choices else ""
            lines.append(f"{option.name} = {_toml(getattr(options, option.name))}{note}")
    return "\n".join(lines)


def parse_assignment(text: str) -> tuple[str, str]:
    """`section.key=value` of `--set`."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: give section.key=value, e.g. turn.silence_ms=700")
    if key.strip() in SECRET:
        raise ConfigError(f"--set {key.strip()}: others could read it; put it in the environment")
    return key.strip(), value.strip()


def _usual_files(environ: Mapping[str, str]) -> list[Path]:
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")) / ".config")
    return [Path("textpro.toml"), Path(home) / "textpro-stream" / "textpro.toml"]


def _from_file(path: Path) -> dict[str, object]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); --config takes a TOML file", path=path
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}", path=path) from None
    sections = {section.name for section in fields(Settings)}
    values: dict[str, object] = {}
    for section, content in table.items():
        if section not in sections:
            hint = nearest(section, sorted(sections))
            raise ConfigError(f"{path}: unknown section [{section}]; {hint}", key=section)
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: {section} is a section; write [{section}]", key=section)
        for name, value in content.items():
            key = f"{section}.{name}"
            values[key] = value_of(key, value, f"{path}: {key}")
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    names = {PREFIX + key.upper().replace(".", "__"): key for key in known_keys()}
    values: dict[str, object] = {}
    for variable, text in sorted(environ.items()):
        if variable in names:
            values[names[variable]] = value_of(names[variable], text, variable)
        elif variable.startswith(PREFIX):
            # Other variables with the prefix may be somebody's own, unless they look like ours.
            close = difflib.get_close_matches(variable, names, n=1, cutoff=0.85)
            if "__" in variable or close:
                raise ConfigError(f"unknown variable {variable}; {nearest(variable, names)}")
    return values


def value_of(key: str, value: object, origin: str) -> object:
    """The value in the option's own type.

    Args:
        key: `section.key`.
        value: from TOML in its type, from elsewhere as text.
        origin: where it was written, for the message.
    """
    hints = known_keys()
    if key not in hints:
        raise ConfigError(f"{origin}: unknown option; {nearest(key, hints)}", key=key)
    hint = hints[key]
    choices = _choices(hint)
    if choices:
        if value not in choices:
            near = nearest(str(value), choices)
            raise ConfigError(
                f"{origin} = {value!r}: {near} (one of {', '.join(choices)})", key=key, value=value
            )
        return value
    number = _typed(hint, value)
    if number is None:
        kind = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[hint]
        raise ConfigError(f"{origin} = {value!r}: give {kind}", key=key, value=value)
    least, greatest = BOUNDS.get(key, (-math.inf, math.inf))
    if isinstance(number, int | float) and not least <= number <= greatest:
        raise ConfigError(f"{origin} = {value!r}: give {least} to {greatest}", key=key, value=value)
    return number


def _typed(hint: type, value: object) -> object:
    """The value as `hint`, or None where it is not one."""
    if hint is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        return words.get(str(value).lower())
    if hint is str:
        return value if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if hint is int and isinstance(value, float):
        return None
    try:
        return hint(value)
    except ValueError:
        return None


def _choices(hint: Any) -> tuple[str, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


def _toml(value: object) -> str:
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
