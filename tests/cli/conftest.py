"""`textpro` as a user runs it: a process of its own, in an empty folder."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import command, environment

Textpro = Callable[..., subprocess.CompletedProcess[str]]


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
