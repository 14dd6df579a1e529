"""Three minutes of a crowd around a real server; TEXTPRO_SOAK_MINUTES makes it longer."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from processes import command, environment

MINUTES = os.environ.get("TEXTPRO_SOAK_MINUTES", "3")


@pytest.mark.weights
def test_nothing_grows(tmp_path: Path) -> None:
    done = subprocess.run(
        command("bench", "soak", "--minutes", MINUTES, "--clients", "2"),
        env=environment(tmp_path, **_cache()),
        capture_output=True,
        text=True,
        timeout=60 * float(MINUTES) + 600,
    )
    assert done.returncode == 0, done.stdout[:4000] + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["complaints"] == []
    assert result["answered"] > 2
    assert sum(result["turns"].values()) > 4


def _cache() -> dict[str, str]:
    """Where the models are, for a process that believes to live elsewhere."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return {"TEXTPRO_CACHE": os.environ.get("TEXTPRO_CACHE") or str(home / "textpro-stream")}
