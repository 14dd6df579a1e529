"""Install what requirements.lock names, and PyTorch without CUDA where there is no GPU.

    .venv/bin/python tools/install.py        # `make setup` runs it

On Linux the plain package index gives PyTorch's CUDA build: 2.7 GB with the libraries it wants.
PyTorch's own index has the same version for CPUs: 0.2 GB. Without an NVIDIA GPU that one is taken,
if the index answers at once; else the plain index, as anywhere.

TORCH_INDEX=URL names another index for PyTorch, TORCH_INDEX= (empty) the plain one: for an image
that is built without a GPU and runs with one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ANSWERS_S = 3  # a set-up that cannot reach it shall not wait for it
CPU_SIZE, CUDA_SIZE = "390 MB", "2.9 GB"  # all packages, Linux on x86-64, Python 3.11

Pip = Callable[[Sequence[str]], int]


def has_nvidia(devices: Path = Path("/dev")) -> bool:
    """Whether an NVIDIA GPU, or at least its driver, is here."""
    return any(devices.glob("nvidia*")) or shutil.which("nvidia-smi") is not None


def answers(index: str, timeout_s: float = ANSWERS_S) -> bool:
    """Whether the index shows its page of PyTorch within the time; names looked up included."""
    fine = threading.Event()
    done = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=timeout_s) as page:
                if page.status == 200:
                    fine.set()
        except (OSError, ValueError):  # no network, no such page, no certificate, no URL
            pass
        finally:
            done.set()

    # A thread, since looking up a name has no time limit of its own.
    threading.Thread(target=ask, daemon=True).start()
    done.wait(timeout_s)
    return fine.is_set()


def torch_index(environment: Mapping[str, str], platform: str, nvidia: bool) -> str | None:
    """The index that PyTorch shall come from; None for the plain one."""
    chosen = environment.get("TORCH_INDEX", CPU_INDEX if platform == "linux" and not nvidia else "")
    if chosen and not answers(chosen):
        print(f"{chosen} does not answer within {ANSWERS_S} s: PyTorch comes from the plain index")
        return None
    return chosen or None


def locked(package: str, lock: str) -> str:
    """The line of the lock that names this package's version."""
    return next(line for line in lock.splitlines() if line.startswith(f"{package}=="))


def install(pip: Pip, index: str | None) -> int:
    """Install it all by `pip`, PyTorch first and from `index`; give the status of what failed."""
    if index is not None:
        torch = locked("torch", LOCK.read_text())
        print(f"{torch} for CPUs, from {index}")
        # Without what it depends on: the lock has that, and other packages lie in this index too.
        if pip(["--no-deps", "--index-url", index, torch]) != 0:
            print("not to be had there: PyTorch comes from the plain index")
    return pip(["-r", str(LOCK)]) or pip(["--no-deps", "--no-build-isolation", "-e", str(ROOT)])


def main() -> int:
    """Run it; give the exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 - make may find an older one
        print(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; with another:")
        print("make clean && make PYTHON=python3.12 setup")
        return 1
    sys.stdout.reconfigure(line_buffering=True)  # in order with what pip says
    index = torch_index(os.environ, sys.platform, has_nvidia())
    size = CUDA_SIZE if index is None and sys.platform == "linux" else CPU_SIZE
    print(f"Installing into .venv: up to {size} of packages to fetch, then minutes to unpack")
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    return install(lambda arguments: subprocess.call([*command, *arguments]), index)


if __name__ == "__main__":
    sys.exit(main())
