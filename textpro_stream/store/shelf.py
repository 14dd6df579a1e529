"""The cache on disk: what is on the shelf, and how something gets there in one step.

    <cache>/models/<slug>/     finished folders, each with its manifest; nothing half-made, ever
    <cache>/staging/<slug>/    what a pull is making now; of a dead process, swept by the next pull
    <cache>/partial/<slug>/    hub downloads that were cut off and can go on
    <cache>/locks/<slug>.lock  held while a model is made or removed; the system frees it at death

A folder is made in staging and renamed onto the shelf. The manifest lists each file's size and
sha256: sizes are compared at every use (microseconds), checksums when asked to verify.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textpro_stream.files import expanded
from textpro_stream.store.files import Report, folder_size, remove_tree, sha256_of, write_json

MANIFEST = "textpro-manifest.json"
_KEYS = {"name", "kind", "licence", "source", "files"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a file of a model."""

    path: Path
    what: str


def cache_root() -> Path:
    """`TEXTPRO_CACHE`, else `$XDG_CACHE_HOME/textpro-stream`, else `~/.cache/textpro-stream`."""
    if own := os.environ.get("TEXTPRO_CACHE"):
        return expanded(own)
    base = os.environ.get("XDG_CACHE_HOME", "")
    # a relative XDG path is to be ignored, says its specification
    return (Path(base) if os.path.isabs(base) else expanded("~/.cache")) / "textpro-stream"


class Shelf:
    """The cache below one root folder. Looking never creates anything."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, slug: str) -> Path:
        """Where a finished model is, or would be."""
        return self.root / "models" / slug

    def partial(self, slug: str) -> Path:
        """Where a hub download that was cut off is, or would be."""
        return self.root / "partial" / slug

    def manifest(self, slug: str) -> dict[str, Any] | None:
        """The manifest of a finished model; None if it is missing or unreadable."""
        try:
            loaded = json.loads((self.folder(slug) / MANIFEST).read_bytes())
        except (OSError, ValueError):
            return None
        return loaded if isinstance(loaded, dict) and loaded.keys() >= _KEYS else None

    def holds(self, slug: str, origin: dict[str, Any]) -> bool:
        """Whether the model is there, made from `origin`, with every file at its full size."""
        manifest = self.manifest(slug)
        if manifest is None or any(manifest.get(key) != value for key, value in origin.items()):
            return False
        folder = self.folder(slug)
        try:
            return all(
                (folder / path).stat().st_size == facts["size"]
                for path, facts in manifest["files"].items()
            )
        except OSError:
            return False

    def slugs(self) -> list[str]:
        """All finished models, by folder name."""
        try:
            found = sorted(path.name for path in (self.root / "models").iterdir())
        except OSError:
            return []
        return [slug for slug in found if self.manifest(slug) is not None]

    def size(self, slug: str) -> int:
        """Bytes on disk of a finished model."""
        return folder_size(self.folder(slug))

    def problems(self, slug: str) -> list[Problem]:
        """Compare every file with the manifest, by checksum."""
        folder, manifest = self.folder(slug), self.manifest(slug)
        if manifest is None:
            return [Problem(folder / MANIFEST, "missing or unreadable")]
        found = []
        for name, facts in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                found.append(Problem(path, "missing"))
            elif path.stat().st_size != facts["size"]:
                found.append(
                    Problem(path, f"{path.stat().st_size} bytes, expected {facts['size']}")
                )
            elif sha256_of(path) != facts["sha256"]:
                found.append(Problem(path, "wrong sha256: its content was changed or damaged"))
        return found

    @contextmanager
    def locked(self, slug: str, report: Report | None = None) -> Iterator[None]:
        """Be the only process that makes or removes this model.

        Waits for another one that does. Nobody holds the lock of a dead process.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self._lock_file(slug))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if report is not None:
                report(0, None, "waiting")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def staging(self, slug: str) -> Iterator[Path]:
        """An empty folder to make a model in, gone afterwards. Needs the lock."""
        own = self.root / "staging" / slug
        self._sweep(holding=slug)
        own.mkdir(parents=True, exist_ok=True)
        try:
            # a fresh name: what a killed pull's pip still writes cannot get in the way
            yield Path(tempfile.mkdtemp(dir=own))
        finally:
            remove_tree(own)

    def put(self, slug: str, made: Path, origin: dict[str, Any]) -> Path:
        """Write the manifest into the folder `made` and rename it onto the shelf. Needs the lock.

        Args:
            slug: the model's folder name.
            made: a complete folder inside the cache.
            origin: facts for the manifest; `holds` compares them later.
        """
        files = {}
        for path in sorted(path for path in made.rglob("*") if path.is_file()):
            path.chmod(0o644)  # safetensors writes for its owner only; caches are often shared
            with path.open("rb") as stream:
                os.fsync(stream.fileno())  # else a power cut could leave the name without the bytes
            name = path.relative_to(made).as_posix()
            files[name] = {"size": path.stat().st_size, "sha256": sha256_of(path)}
        write_json(made / MANIFEST, {**origin, "files": files})
        self.take_down(slug)
        target = self.folder(slug)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.rename(target)
        return target

    def take_down(self, slug: str) -> None:
        """Remove a model in one visible step, then free its space. Needs the lock."""
        if not self.folder(slug).exists():
            return
        grave = self.root / "staging" / slug / ".removed"
        grave.parent.mkdir(parents=True, exist_ok=True)
        remove_tree(grave)
        self.folder(slug).rename(grave)
        remove_tree(grave)

    def _lock_file(self, slug: str) -> Path:
        path = self.root / "locks" / f"{slug}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _sweep(self, *, holding: str) -> None:
        """Delete what dead processes left in staging; `holding` is locked by us."""
        from filelock import FileLock, Timeout

        staging = self.root / "staging"
        for left in list(staging.iterdir()) if staging.is_dir() else []:
            if left.name == holding:
                remove_tree(left)
                continue
            try:
                with FileLock(self._lock_file(left.name), timeout=0):
                    remove_tree(left)
            except Timeout:  # alive: another model is being made there
                continue
