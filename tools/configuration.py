"""Write docs/configuration.md: every option, as `config.py` and the flags of `textpro` have it.

    .venv/bin/python tools/configuration.py [FILE]

`make docs` runs it; tests/test_docs.py checks that the page is what it would write.

Names, types, defaults and bounds come from the dataclasses, what an option is from the comments
beside it, which are read from the source because Python throws them away.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from textpro_stream import config
from textpro_stream.cli import serve, settings
from textpro_stream.cli.options import SHORTCUTS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration: every option

Written by `make docs` from `textpro_stream/config.py`; change it there.

Options come from four places, the later wins: the defaults below, a TOML file, the environment,
flags. The file is the one that `--config` names, else `./textpro.toml`, else
`~/.config/textpro-stream/textpro.toml`. An unknown name or a value out of bounds ends the command
with one line that names the nearest known one.

| place | how `silence_ms` of `[turn]` is written |
|---|---|
| TOML | `silence_ms = 700` below `[turn]` |
| environment | `TEXTPRO_TURN__SILENCE_MS=700` |
| flag | `--silence 700`, or for any option `--set turn.silence_ms=700` |
| Python | `Engine.load(Settings(turn=TurnOptions(silence_ms=700)))` |

`textpro --config-dump` prints the options in force, in a form that loads back. Names carry the
unit: `_ms` milliseconds, `_s` seconds, `_wpm` words per minute; a key without one is a count, a
name or a switch. `TEXTPRO_CACHE` is where models lie, and `TEXTPRO_DEBUG=1` shows where an
unexpected error came from; neither is an option.
"""

# Flags that set an option under a name of their own, and the command that has them.
SWITCHES = {
    "server.tls": "serve --tls",
    "server.insecure": "serve --insecure",
    "server.mqtt_text": "serve --mqtt-text",
    "turn.push_to_talk": "talk --push-to-talk",
    "turn.barge_in": "talk --no-barge-in",
}


@dataclass(frozen=True, slots=True)
class Option:
    """One row."""

    key: str
    default: str
    values: str
    flag: str
    meaning: str


def page() -> str:
    """The whole page."""
    notes = comments(inspect.getsource(config))
    parts = [INTRODUCTION]
    for section in fields(config.Settings):
        options = get_type_hints(config.Settings)[section.name]
        about = (inspect.getdoc(options) or "").splitlines()[0]
        parts.append(f"## {about.removesuffix('.')}\n")
        parts.append("| key, variable | default | values | flag | what it is |")
        parts.append("|---|---|---|---|---|")
        for option in rows(section.name, options, notes):
            variable = f"TEXTPRO_{section.name.upper()}__{option.key.upper()}"
            cells = (option.default, option.values, option.flag, option.meaning)
            parts.append(f"| `{option.key}`<br>`{variable}` | {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def rows(section: str, options: type, notes: dict[tuple[str, str], str]) -> Iterator[Option]:
    """The options of a section, in the order of the source."""
    assert is_dataclass(options)
    hints = get_type_hints(options, include_extras=True)
    for field in fields(options):
        key = f"{section}.{field.name}"
        flag, told = flag_of(key)
        meaning = notes.get((options.__name__, field.name)) or told
        if meaning.startswith("Measured in"):  # says why, not what
            meaning = f"{told}. {meaning}"
        meaning = linked(meaning).replace("|", "\\|")
        yield Option(field.name, default_of(field), values_of(hints[field.name]), flag, meaning)


def default_of(field: Field[Any]) -> str:
    """As TOML has it."""
    value = field.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value}`"


def values_of(hint: Any) -> str:
    """What may stand there: a choice, bounds, or anything of its type."""
    if get_origin(hint) is Annotated:
        _, bounds = get_args(hint)
        return str(bounds)
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    return {bool: "true or false", int: "whole number", float: "number", str: "text"}[hint]


def flag_of(key: str) -> tuple[str, str]:
    """The flag that sets an option, and what its help says; empty where there is none."""
    section, name = key.split(".")
    if key in settings.SECRET:
        return "never", ""
    for flag, (keys, _, text) in SHORTCUTS.items():
        if key in keys:
            return f"`{flag}`", text
    for flag, (option, text) in serve.FLAGS.items():
        if (section, name) == ("server", option):
            return f"`serve {flag}`", text
    return (f"`{SWITCHES[key]}`" if key in SWITCHES else ""), ""


def comments(source: str) -> dict[tuple[str, str], str]:
    """(class, field) -> the comment above it and the one behind it."""
    whole: dict[int, str] = {}  # by line
    trailing: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            text = token.string.lstrip("#").strip()
            (whole if alone else trailing)[token.start[0]] = text
    found = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                above: list[str] = []
                at = line.lineno - 1
                while at in whole:
                    above.insert(0, whole[at])
                    at -= 1
                behind = trailing.get(line.end_lineno or 0, "")
                texts = [re.sub(r"(?<!\.)\.$", "", t) for t in (" ".join(above), behind) if t]
                found[node.name, line.target.id] = "; ".join(texts)
    return found


def linked(text: str) -> str:
    """Notes that a comment names become links."""

    def link(match: re.Match[str]) -> str:
        (note,) = (ROOT / "docs" / "notes").glob(f"{match['number']}-*.md")
        return f"[note {match['number']}](notes/{note.name})"

    return re.sub(r"(docs/notes/|note )(?P<number>\d{4})(-[\w-]+\.md)?", link, text)


if __name__ == "__main__":
    Path(sys.argv[1] if sys.argv[1:] else PAGE).write_text(page(), encoding="utf-8")
