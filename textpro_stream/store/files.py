"""Small file work that every part of the store shares."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textpro_stream.errors import WeightsError

if TYPE_CHECKING:
    from textpro_stream.ports import ProgressStage

_PIECE = 1 << 20  # bytes read at once: large enough for the disk, small enough for a progress bar
_WATCH_S = 0.1  # between two looks at a growing download

Report = Callable[[int, "int | None", "ProgressStage"], None]  # a Progress that knows its model


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write readable JSON, keys in their given order, without those whose value is None."""
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes, a megabyte at a time."""
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            yield piece


def sha256_of(path: Path) -> str:
    """A file's sha256, in hex."""
    digest = hashlib.sha256()
    for piece in pieces(path):
        digest.update(piece)
    return digest.hexdigest()


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`; files that vanish meanwhile do not count."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except FileNotFoundError:
                continue
    return total


@contextmanager
def watching(folder: Path, report: Callable[[int], None]) -> Iterator[None]:
    """Report the growing size of `folder` while somebody else writes into it."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_WATCH_S):
            report(folder_size(folder))

    watcher = threading.Thread(target=watch, name="watch download", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def remove_tree(folder: Path) -> None:
    """Delete a folder and all it holds, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def require_space(folder: Path, needed: int, name: str) -> None:
    """Refuse early what would fill the disk.

    Raises:
        WeightsError: if the disk of `folder` has fewer than `needed` bytes free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise disk_full(folder, needed, name, free)


def disk_full(folder: Path, needed: int | None, name: str, free: int | None = None) -> WeightsError:
    """The error for a disk without room; None where the bytes needed or free are not known."""
    wants = "more room" if needed is None else megabytes(needed)
    found = "the disk is full" if free is None else f"only {megabytes(free)} are free"
    return WeightsError(
        f"{name} needs {wants} in {folder}, but {found}:"
        " make room, or set TEXTPRO_CACHE to a folder on another disk",
        name=name,
        needed=needed,
        free=free,
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, of Python's or of a native library, says that the disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return says_disk_full(str(error))


def says_disk_full(text: str) -> bool:
    """Whether a library's or a program's message says that the disk is full."""
    return any(sign in text for sign in ("No space left", "os error 28", "Errno 28", "quota exc"))


def megabytes(n_bytes: int) -> str:
    """A size for people: MB up to a gigabyte, GB above."""
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.1f} GB"
