"""Fetch a repository of the Hugging Face hub: safetensors, configs and tokenizer, nothing else.

A download that was cut off goes on where it stopped. The user's own token, endpoint and offline
switch (`HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`) hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from textpro_stream.errors import WeightsError
from textpro_stream.store.catalogue import HubModel
from textpro_stream.store.check import no_safetensors
from textpro_stream.store.files import (
    Report,
    folder_size,
    is_disk_full,
    remove_tree,
    require_space,
    sha256_of,
    watching,
)

_WANTED = ("*.json", "merges.txt", "vocab.txt", "tokenizer.model", "*.jinja", "LICENSE*")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_OTHER_PRECISION = re.compile(r"\.(fp32|fp16|non_ema)\b")  # the same weights once more
_OVERHEAD = 50_000_000  # bytes; configs, tokenizer and the hub's own bookkeeping


@dataclass(frozen=True, slots=True)
class _Listed:
    path: str
    size: int
    sha256: str | None  # of large files; small ones are not listed with one


def fetch_repository(model: HubModel, folder: Path, report: Report) -> str:
    """Download what the model needs into `folder`.

    Args:
        model: which repository, revision and files.
        folder: on the cache's disk; may hold what an earlier try left.
        report: told the bytes so far.

    Returns:
        The commit that was fetched, 40 hex digits.

    Raises:
        WeightsError: no network, no such repository or revision, no permission, no safetensors,
            no room, damaged on the way.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        info = HfApi().model_info(model.repo, revision=model.revision, files_metadata=True)
        listed = [
            _Listed(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else None)
            for s in info.siblings or ()
        ]
        commit = str(info.sha)
        chosen = _choose(model, listed)
        total = sum(each.size for each in chosen)
        folder.mkdir(parents=True, exist_ok=True)
        require_space(folder, total - folder_size(folder) + _OVERHEAD, model.name)
        report(min(folder_size(folder), total), total, "downloading")
        with (
            _without_bars(),
            watching(folder, lambda size: report(min(size, total), total, "downloading")),
        ):
            snapshot_download(
                model.repo,
                revision=commit,
                local_dir=folder,
                allow_patterns=[each.path for each in chosen],
            )
    except WeightsError:
        raise
    except Exception as error:  # the hub's library changes its HTTP client, and so its errors
        if is_disk_full(error):
            raise
        raise _explain(model, error) from error
    report(total, total, "checking")
    remove_tree(folder / ".cache")
    _check(model, folder, chosen)
    return commit


def _choose(model: HubModel, listed: list[_Listed]) -> list[_Listed]:
    """The files that make a model: one set of safetensors, and everything small that goes with it.

    Raises:
        WeightsError: if the repository holds pickles only, or lacks a file that was asked for.
    """
    if model.files:
        chosen = [each for each in listed if each.path in model.files]
        if len(chosen) != len(model.files):
            raise WeightsError(f"the hub has no voice {model.name}: see {model.repo} for its names")
        return chosen
    top = [each for each in listed if "/" not in each.path]
    plain = [each for each in top if not _OTHER_PRECISION.search(each.path)]
    weights = [each for each in plain if each.path.endswith(".safetensors")]
    if any(each.path == "model.safetensors" for each in weights):
        weights = [each for each in weights if not _SHARD.fullmatch(each.path)]
    if not weights:
        pickles = [e.path for e in top if any(fnmatch(e.path, each) for each in _PICKLED)]
        raise WeightsError(no_safetensors(model.repo, pickles), repo=model.repo)
    small = [each for each in plain if any(fnmatch(each.path, pattern) for pattern in _WANTED)]
    return weights + [each for each in small if not each.path.endswith(".bin.index.json")]


def _check(model: HubModel, folder: Path, chosen: list[_Listed]) -> None:
    """Compare with the listing; drop what an older commit left; put voice files flat."""
    expected = {folder / each.path: each for each in chosen}
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path not in expected:
            path.unlink()
    for path, each in expected.items():
        if each.sha256 is not None and sha256_of(path) != each.sha256:
            remove_tree(folder)
            raise WeightsError(
                f"{model.repo}: {each.path} arrived damaged (wrong sha256); nothing was kept."
                " Pull again",
                repo=model.repo,
            )
    if model.files:
        for path in expected:
            path.rename(folder / path.name)
        for left in [path for path in folder.iterdir() if path.is_dir()]:
            remove_tree(left)


def _explain(model: HubModel, error: Exception) -> WeightsError:
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"https://huggingface.co/{model.repo}"
    match error:
        case GatedRepoError():
            what = f"asks you to accept its terms: do so at {page} and set HF_TOKEN"
        case RevisionNotFoundError():
            what = f"has no revision {model.revision!r}: see {page}/commits/main"
        case RepositoryNotFoundError():
            what = "does not exist there, or is private: check the name, or set HF_TOKEN"
        case _:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            what = (
                f"could not be fetched ({first}): connect and run `textpro models pull"
                f" {model.name}`, or set TEXTPRO_CACHE to a filled cache, or give a local folder"
            )
    return WeightsError(f"{model.repo} of the Hugging Face hub {what}", repo=model.repo)


@contextmanager
def _without_bars() -> Iterator[None]:
    """The hub's own bars would be drawn over those of whoever listens to `report`."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
