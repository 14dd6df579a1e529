"""Files that are never seen half written, and where the user's are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from textpro_stream.errors import ConfigError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; it takes the place of `path` when all is written.

    It keeps the ending of `path`, for writers that go by it, and is gone if anything fails.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def expanded(path: str | Path) -> Path:
    """A path, with `~` as the user's home.

    Raises:
        ConfigError: there is no such home.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{path}: this user has no home folder; set HOME, or TEXTPRO_CACHE and paths without ~"
        ) from None
