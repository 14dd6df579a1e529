"""Settings from four places: defaults, a TOML file, the environment, flags. Later ones win.

Everything is read off the dataclasses of `config.py`: a new option there is at once a TOML key,
a `TEXTPRO_SECTION__KEY` variable and a `--set section.key=value`. Unknown names and values fail
with the nearest known one. Knows nothing of what an option does.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import get_type_hints

from textpro_stream.bounds import Kind, kinds
from textpro_stream.config import Settings
from textpro_stream.errors import ConfigError, nearest

PREFIX = "TEXTPRO_"

# Never given on a command line, which every user of the machine can read, and never printed.
SECRET = ("llm.api_key", "server.api_key", "server.mqtt_password")


@cache
def known_keys() -> dict[str, Kind]:
    """Every option as `section.key`, with what it may hold."""
    return {
        f"{section}.{name}": kind
        for section, options in get_type_hints(Settings).items()
        for name, kind in kinds(options).items()
    }


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
    # A section at a time: one option may only be allowed beside what another is set to.
    sections: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = value
    hints = get_type_hints(Settings)
    return Settings(**{section: hints[section](**given) for section, given in sections.items()})


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
            kind = known_keys()[key]
            allowed = " | ".join(kind.choices) or str(kind.range or "")
            note = f"  # {allowed}" if allowed else ""
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
    known = known_keys()
    if key not in known:
        raise ConfigError(f"{origin}: unknown option; {nearest(key, known)}", key=key)
    kind = known[key]
    typed = _typed(kind.type, value)
    kind.check(key, value if typed is None else typed, origin)
    return typed


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


def _toml(value: object) -> str:
    if isinstance(value, str):  # JSON's escapes are TOML's, but for DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
