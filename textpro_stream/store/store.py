"""Model name -> verified local folder.

A name is one of the catalogue, `org/name` of the Hugging Face hub, or a local folder. What is in
the cache is used as it is: no network, no hashing, no heavy import.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textpro_stream.errors import WeightsError
from textpro_stream.files import expanded
from textpro_stream.store import catalogue
from textpro_stream.store.catalogue import HubModel, Kind, PinnedModel, find
from textpro_stream.store.check import check_folder, kind_of
from textpro_stream.store.files import (
    Report,
    disk_full,
    is_disk_full,
    remove_tree,
    require_space,
)
from textpro_stream.store.shelf import Problem, Shelf, cache_root

if TYPE_CHECKING:
    from textpro_stream.ports import Progress, ProgressStage


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that is in the cache, or that a default needs there."""

    name: str
    kind: Kind
    size: int  # bytes on disk; where absent, roughly what it will take
    present: bool
    source: str
    licence: str  # "" where the hub does not say it in a form we read


def resolve(
    name: str,
    kind: Kind,
    *,
    pull: bool = True,
    progress: Progress | None = None,
    revision: str | None = None,
) -> Path:
    """The folder of a model, fetched first if it is missing and `pull` allows it.

    Args:
        name: a name of the catalogue, `org/name` of the hub, or a local folder.
        kind: what it has to be.
        pull: whether the network may be used.
        progress: told how far a pull is.
        revision: branch, tag or commit of a hub model.

    Raises:
        WeightsError: unknown name, wrong kind, not to be had, damaged.
    """
    if (local := _local_folder(name)) is not None:
        if revision is not None:
            raise WeightsError(f"{name} is a local folder and has no revision {revision!r}")
        check_folder(local, kind)
        return local
    model = find(name, kind, revision=revision)
    shelf = Shelf(cache_root())
    if not shelf.holds(model.slug, _origin(model)):
        if not pull:
            raise _absent(name, shelf)
        _make(model, shelf, progress, by_checksum=False)
    own = (shelf.manifest(model.slug) or {}).get("kind")
    if own != kind:
        raise WeightsError(f"{name} is a {own} model, but a {kind} model is needed here", name=name)
    return shelf.folder(model.slug)


def pull(
    name: str,
    *,
    kind: Kind | None = None,
    progress: Progress | None = None,
    revision: str | None = None,
) -> Path:
    """Have a model in the cache, complete and by its checksums; fetch it unless it is.

    Interrupt it whenever you like: a model is there as a whole or not at all. Two processes that
    pull one model do not clash: the second waits and finds it done.

    Raises:
        WeightsError: unknown name, no network, wrong checksum, no room, cache not writable.
    """
    if _local_folder(name) is not None:
        raise WeightsError(f"{name} is a local folder: there is nothing to pull", name=name)
    model = find(name, kind, revision=revision)
    return _make(model, Shelf(cache_root()), progress, by_checksum=True)


def verify(name: str, *, revision: str | None = None) -> list[Problem]:
    """Read every byte of a model and compare it with its manifest. Empty means whole.

    A local folder has no manifest: there the layout and the headers are checked.

    Raises:
        WeightsError: if it is not in the cache.
    """
    if (local := _local_folder(name)) is not None:
        try:
            check_folder(local, kind_of(local))
        except WeightsError as error:
            return [Problem(local, str(error))]
        return []
    model, shelf = find(name, revision=revision), Shelf(cache_root())
    if not shelf.folder(model.slug).is_dir():
        raise _absent(name, shelf)
    return shelf.problems(model.slug)


def where(name: str, *, revision: str | None = None) -> Path:
    """The folder of a model that is in the cache; a local folder is where it is.

    Raises:
        WeightsError: if it is not there.
    """
    if (local := _local_folder(name)) is not None:
        return local
    model, shelf = find(name, revision=revision), Shelf(cache_root())
    if not shelf.holds(model.slug, _origin(model)):
        raise _absent(name, shelf)
    return shelf.folder(model.slug)


def remove(name: str, *, revision: str | None = None) -> None:
    """Delete a model, and what a cut-off download of it left.

    Raises:
        WeightsError: if neither is there.
    """
    model, shelf = find(name, revision=revision), Shelf(cache_root())
    if not shelf.folder(model.slug).exists() and not shelf.partial(model.slug).exists():
        raise _absent(name, shelf)
    with _one_line(model, shelf), shelf.locked(model.slug):
        shelf.take_down(model.slug)
        remove_tree(shelf.partial(model.slug))


def entries() -> list[Entry]:
    """The defaults, then whatever else is in the cache."""
    shelf = Shelf(cache_root())
    found = []
    for model in catalogue.DEFAULTS:
        present = shelf.holds(model.slug, _origin(model))
        size = shelf.size(model.slug) if present else model.size
        found.append(Entry(model.name, model.kind, size, present, model.source, model.licence))
    known = {model.slug for model in catalogue.DEFAULTS}
    for slug in shelf.slugs():
        if slug not in known and (manifest := shelf.manifest(slug)) is not None:
            found.append(
                Entry(
                    manifest["name"],
                    manifest["kind"],
                    shelf.size(slug),
                    True,
                    manifest["source"],
                    manifest["licence"],
                )
            )
    return found


def defaults() -> list[str]:
    """Names of the models that a plain run needs."""
    return [model.name for model in catalogue.DEFAULTS]


def _local_folder(name: str) -> Path | None:
    """The folder that a name means; None where it is a name and no path."""
    if any(model.name == name for model in catalogue.DEFAULTS):
        return None  # `./tiny.en` means the folder
    path = expanded(name)
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or path.is_file():
        found = "is a file" if path.is_file() else "does not exist"
        raise WeightsError(f"{path} {found}: give a folder with a model in it", path=path)
    return None


def _absent(name: str, shelf: Shelf) -> WeightsError:
    return WeightsError(
        f"{name} is not in the cache {shelf.root}: run `textpro models pull {name}`", name=name
    )


def _origin(model: PinnedModel | HubModel) -> dict[str, Any]:
    """What the manifest must say for the folder to be this model, made as we make it now."""
    facts: dict[str, Any] = {"source": model.source}
    if isinstance(model, PinnedModel):
        facts["layout"] = model.layout
        facts["inputs"] = {wheel.label: wheel.sha256 for wheel in model.sources}
    return facts


def _make(
    model: PinnedModel | HubModel, shelf: Shelf, progress: Progress | None, *, by_checksum: bool
) -> Path:
    def report(done: int, total: int | None, stage: ProgressStage) -> None:
        if progress is not None:
            progress(model.name, done, total, stage)

    with _one_line(model, shelf), shelf.locked(model.slug, report):
        # somebody else may have made it while we waited
        whole = shelf.holds(model.slug, _origin(model))
        if whole and by_checksum:
            report(0, shelf.size(model.slug), "checking")
            whole = not shelf.problems(model.slug)
        if not whole:
            if isinstance(model, PinnedModel):
                _make_pinned(model, shelf, report)
            else:
                _make_from_hub(model, shelf, report)
        size = shelf.size(model.slug)
        report(size, size, "ready")
        return shelf.folder(model.slug)


def _make_pinned(model: PinnedModel, shelf: Shelf, report: Report) -> None:
    from textpro_stream.store.convert import convert
    from textpro_stream.store.wheels import fetch_members

    with shelf.staging(model.slug) as staging:
        require_space(shelf.root, model.peak_bytes, model.name)
        members = fetch_members(model, staging, report)
        report(0, None, "converting")
        made = staging / "made"
        made.mkdir()
        convert(model, members, made)
        shelf.put(model.slug, made, _facts(model, model.kind))


def _make_from_hub(model: HubModel, shelf: Shelf, report: Report) -> None:
    from textpro_stream.store.hub import fetch_repository

    partial = shelf.partial(model.slug)
    commit = fetch_repository(model, partial, report)
    try:
        kind = model.kind or kind_of(partial)
        check_folder(partial, kind)
    except WeightsError:
        remove_tree(partial)  # complete, and no use: nothing to go on with later
        raise
    shelf.put(model.slug, partial, {**_facts(model, kind), "commit": commit})


def _facts(model: PinnedModel | HubModel, kind: Kind) -> dict[str, Any]:
    return {"name": model.name, "kind": kind, "licence": model.licence, **_origin(model)}


@contextmanager
def _one_line(model: PinnedModel | HubModel, shelf: Shelf) -> Iterator[None]:
    """Say in one line what the disk did; native libraries have their own ways to tell."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        if is_disk_full(error):
            needed = model.peak_bytes if isinstance(model, PinnedModel) else None
            raise disk_full(shelf.root, needed, model.name) from error
        if isinstance(error, OSError):
            raise WeightsError(
                f"cannot work in the model cache {shelf.root} ({error}):"
                " set TEXTPRO_CACHE to a folder of yours",
                root=shelf.root,
            ) from error
        raise
