"""What the documents print is true: commands parse, snippets compile, links lead somewhere.

Nothing that a reader may copy is left out: every fence names its language, and every command is
parsed by `textpro` itself, run by a test, or has its reason in a table below.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
from processes import environment

from textpro_stream import commands, events
from textpro_stream.cli.main import COMMANDS, main
from textpro_stream.telemetry.marks import DERIVED, MARKS

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
LINKED = [*PAGES, *sorted((ROOT / "docs" / "notes").glob("*.md"))]
LANGUAGES = {"sh", "python", "toml", "json", "ini", "nginx", "text"}

# How a command other than `textpro` begins: the test that runs it ...
RUN = {
    "make demo": "tests/cli/test_real.py",
    "make docs": "tests/test_docs.py",
    "python examples/": "tests/examples/test_examples.py",
    "python tests/support/llama_cpp_server.py": "tests/conversations/test_remote_llm.py",
    "mosquitto_sub": "tests/server/mqtt/test_bridge.py",  # its twin in Python, the same topics
}
# ... or why none does.
NOT_RUN = {
    "make setup": "it made the environment that this test runs in",
    "make test": "it runs this test",
    "make check": "it runs this test",
    "make fix": "it changes the checkout",
    "make lock": "it changes the checkout",
    "pytest": "it runs this test; its paths are checked",
    "pip install": "needs the network",
    "sudo": "needs root",
    "journalctl": "needs systemd",
    "ssh": "needs another machine",
    "curl": "needs a server; tests/server/test_http.py asks the same addresses",
    "grep": "reads what another command prints",
    "jq": "reads what another command prints",
    "python3 -c": "tests/server/test_security.py makes keys likewise",
    "chmod": "every reader knows it",
    "ollama": "another program, not ours",
    "llama-server": "another program, not ours",
    "vllm": "another program, not ours",
}


@dataclass(frozen=True)
class Fence:
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True)
class Command:
    where: str
    words: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.where} {' '.join(self.words)}"


def fences() -> Iterator[Fence]:
    for page in PAGES:
        opened: tuple[int, str] | None = None
        lines: list[str] = []
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if not line.startswith("```"):
                lines.append(line)
            elif opened is None:
                opened, lines = (number, line[3:].strip()), []
            else:
                yield Fence(page, *opened, "\n".join(lines))
                opened = None


def inline(page: Path) -> Iterator[str]:
    """What stands in backticks outside of fences."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for found in re.finditer(r"`([^`]+)`", prose):
        yield " ".join(found[1].split())


def commands_of(text: str, where: str) -> Iterator[Command]:
    """The commands of a shell snippet: pipes and lists apart, assignments in front of them."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&>")
        lexer.whitespace_split, lexer.commenters = True, ""
        words: list[str] = []
        skip = False
        for word in [*lexer, ";"]:
            if word.startswith("#"):  # a comment begins a word; an address may hold one
                word = ";"
            if set(word) <= set("|;&"):
                if words:
                    yield command_of(words, where)
                words = []
                if word == ";" and line.find(" #") >= 0:
                    break
            elif word == ">":
                skip = True
            elif skip:
                skip = False
            else:
                words.append(word)


def command_of(words: list[str], where: str) -> Command:
    variables = []
    if words[0] == "time":
        del words[0]
    while re.match(r"[A-Z][A-Z0-9_]*=", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables.append((name, value))
    words[0] = words[0].removeprefix(".venv/bin/").removeprefix("/opt/textpro-stream/.venv/bin/")
    return Command(where, tuple(words), tuple(variables))


def printed() -> Iterator[Command]:
    for fence in fences():
        if fence.language == "sh":
            yield from commands_of(fence.text, str(fence))
        elif fence.language == "ini":
            for line in re.findall(r"^ExecStart=(.*)$", fence.text, re.MULTILINE):
                yield from commands_of(line, str(fence))
    starts = ("textpro ", "make ", "pytest ", ".venv/bin/", "llama-server ", "ollama ", "vllm ")
    starts += ("ssh ", "sudo ", "time textpro ")
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # tells of commands that are no more
            continue
        for text in inline(page):
            if text.startswith(starts):
                yield from commands_of(text, page.name)


PRINTED = list(printed())
OURS = [c for c in PRINTED if c.words[0] == "textpro"]
OTHERS = [c for c in PRINTED if c.words[0] != "textpro"]


def test_every_fence_names_a_language_that_is_checked() -> None:
    found = {str(fence): fence.language for fence in fences()}
    assert {where: name for where, name in found.items() if name not in LANGUAGES} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_code_hides_outside_of_fences(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"\n\n(?: {4}|\t).*", prose) == []


@pytest.mark.parametrize("command", OURS, ids=str)
def test_a_command_is_one_that_textpro_takes(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Parsed by the real thing, options and variables read; what it would do is left out."""
    arguments = [word for word in command.words[1:] if word not in ("…", "...")]
    begun: list[object] = []

    def begin(*given: object) -> int:
        begun.append(given)
        return 0

    for name in COMMANDS:
        monkeypatch.setattr(f"textpro_stream.cli.{name}.run", begin)
    for name in [name for name in os.environ if name.startswith("TEXTPRO_")]:
        monkeypatch.delenv(name)
    for name, value in command.variables:
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["textpro", *arguments])
    monkeypatch.chdir(tmp_path)  # no options of whoever runs this
    if "COMMAND" in arguments:  # stands for each
        arguments = ["stream" if word == "COMMAND" else word for word in arguments]
    status, said = main(arguments), capsys.readouterr().err
    # In running text a command may be named without what it is given.
    bare = ":" not in command.where and re.search("required: |expected one argument", said)
    assert status == 0 or bare, said
    assert begun or bare or {"--help", "--config-dump"} & set(arguments)


@pytest.mark.parametrize("command", OTHERS, ids=str)
def test_another_command_is_run_by_a_test_or_says_why_not(command: Command) -> None:
    text = " ".join(command.words)
    known = [start for start in (*RUN, *NOT_RUN) if text.startswith(start)]
    assert known, f"{text}: name its test in RUN, or the reason in NOT_RUN"
    match command.words:
        case ("make", *targets):
            makefile = (ROOT / "Makefile").read_text()
            for target in targets:
                assert "=" in target or re.search(rf"^{target}:", makefile, re.MULTILINE), target
        case ("python" | "pytest", *arguments):
            paths = [a for a in arguments if a.startswith(("tests", "examples", "tools"))]
            assert all((ROOT / path).exists() for path in paths)


def test_the_tables_hold_nothing_that_no_document_prints() -> None:
    texts = [" ".join(command.words) for command in OTHERS]
    unused = [s for s in (*RUN, *NOT_RUN) if not any(text.startswith(s) for text in texts)]
    assert unused == []
    assert [test for test in RUN.values() if not (ROOT / test).is_file()] == []


@pytest.mark.parametrize("fence", [f for f in fences() if f.language == "python"], ids=str)
def test_python_compiles(fence: Fence) -> None:
    compile(fence.text, str(fence), "exec")


@pytest.mark.parametrize("fence", [f for f in fences() if f.language == "json"], ids=str)
def test_json_is_json(fence: Fence) -> None:
    for line in fence.text.splitlines():
        json.loads(line)


@pytest.mark.parametrize("fence", [f for f in fences() if f.language == "toml"], ids=str)
def test_options_in_a_file_are_taken(
    fence: Fence, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "textpro.toml"
    path.write_text(fence.text)
    assert main(["doctor", "--config", str(path), "--config-dump"]) == 0
    dumped = tomllib.loads(capsys.readouterr().out)
    for section, options in tomllib.loads(fence.text).items():
        assert options.items() <= dumped[section].items()


@pytest.mark.weights
def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    (fence,) = (f for f in fences() if f.page.name == "README.md" and f.language == "python")
    samples, rate_hz = soundfile.read(ROOT / "textpro_stream" / "assets" / "question.flac")
    soundfile.write(tmp_path / "question.wav", np.asarray(samples), rate_hz)
    done = subprocess.run(
        [sys.executable, "-c", fence.text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "photosynthesis" in done.stdout


def test_the_page_of_options_is_as_config_has_it(tmp_path: Path) -> None:
    written = tmp_path / "configuration.md"
    script = ROOT / "tools" / "configuration.py"
    done = subprocess.run(
        [sys.executable, script, written],
        env=environment(tmp_path, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == written.read_text(), "config.py has changed: make docs"


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            lost.append(target)
    assert lost == []


def anchors(page: Path) -> set[str]:
    """As GitHub names the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    homes = [ROOT, ROOT / "textpro_stream", page.parent]
    file = r"([\w.-]+/)+[\w.-]+\.(py|md|mjs|js|jsonl|flac)|[\w-]+\.py"
    named = {text for text in inline(page) if re.fullmatch(rf"{file}|([\w.-]+/)+", text)}
    assert {text for text in named if not any((home / text).exists() for home in homes)} == set()


def test_no_code_or_reason_is_left_out_of_the_events_page() -> None:
    page = set(inline(ROOT / "docs" / "events.md"))
    told = {
        *get_args(events.FailureCode),
        *get_args(events.TurnEndReason),
        *get_args(events.ReplyEndReason),
        *(kind.__name__ for kind in get_args(events.Event)),
    }
    assert told - page == set()


def test_no_mark_is_left_out_of_the_latency_page() -> None:
    page = set(inline(ROOT / "docs" / "latency.md"))
    others = {
        "endpoint_wait",
        "spec_waste",
        "spec_waste_speech_s",
        "prompt_tokens",
        "cached_tokens",
    }
    assert {*MARKS, *DERIVED, *others} - page == set()


def test_no_command_is_left_out_of_the_page_on_recordings() -> None:
    page = set(inline(ROOT / "docs" / "record-replay.md"))
    assert {kind.__name__.lower() for kind in get_args(commands.Command)} - page == set()
