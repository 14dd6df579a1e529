"""`textpro` as a process of its own, for tests that run it as a user does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

START = "import sys; from textpro_stream.cli.main import main; sys.exit(main())"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", START, *map(str, arguments)]


def environment(home: Path, **more: str) -> dict[str, str]:
    """The caller's, less its options and colours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TEXTPRO_")}
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), **more}
