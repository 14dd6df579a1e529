"""`textpro` as a user runs it: a process of its own, in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Textpro = Callable[..., subprocess.CompletedProcess[str]]
START = "import sys; from textpro_stream.cli.main import main; sys.exit(main())"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", START, *map(str, arguments)]


def environment(home: Path, **more: str) -> dict[str, str]:
    """The caller's, less its options and colours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TEXTPRO_")}
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), **more}


@pytest.fixture
def textpro(tmp_path: Path) -> Textpro:
    """Run it to its end, with an empty model cache unless told otherwise."""

    def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        more.setdefault("TEXTPRO_CACHE", str(tmp_path / "cache"))
        return subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env=environment(tmp_path, **more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
