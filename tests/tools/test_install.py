"""Where PyTorch comes from, and that a set-up goes on when it cannot come from there."""

from __future__ import annotations

import importlib.util
import socket
import threading
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "install.py"
spec = importlib.util.spec_from_file_location("install", SCRIPT)
assert spec is not None
assert spec.loader is not None
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """A package index with a page of PyTorch."""
    (tmp_path / "whl/torch").mkdir(parents=True)

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/whl"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def silent() -> Iterator[str]:
    """An index that takes a question and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_without_a_gpu_an_index_that_answers_is_taken(
    index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "CPU_INDEX", index)
    assert install.torch_index({}, "linux", nvidia=False) == index
    assert install.torch_index({}, "linux", nvidia=True) is None
    assert install.torch_index({}, "darwin", nvidia=False) is None


def test_a_user_may_name_the_index(index: str) -> None:
    assert install.torch_index({"TORCH_INDEX": index}, "linux", nvidia=True) == index
    assert install.torch_index({"TORCH_INDEX": ""}, "linux", nvidia=False) is None


def test_an_index_without_the_page_or_without_an_answer_is_not_taken(
    index: str, silent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not install.answers(f"{index}/elsewhere")
    assert not install.answers("not a URL")
    assert not install.answers(silent, timeout_s=0.1)
    assert install.torch_index({"TORCH_INDEX": f"{index}/no"}, "linux", nvidia=False) is None
    assert "the plain index" in capsys.readouterr().out


class Pip:
    """Keeps what it is asked for; the first `n_failures` installations fail."""

    def __init__(self, n_failures: int = 0) -> None:
        self.asked: list[Sequence[str]] = []
        self.n_failures = n_failures

    def __call__(self, arguments: Sequence[str]) -> int:
        self.asked.append(arguments)
        return int(len(self.asked) <= self.n_failures)


def test_the_locked_pytorch_comes_first_and_alone() -> None:
    pip = Pip()
    assert install.install(pip, "http://index") == 0
    torch, locked, ours = pip.asked
    assert list(torch[:3]) == ["--no-deps", "--index-url", "http://index"]
    assert torch[3] in install.LOCK.read_text().splitlines()
    assert torch[3].startswith("torch==")
    assert locked[0] == "-r"
    assert "-e" in ours


def test_what_that_index_cannot_give_comes_from_the_plain_one() -> None:
    assert install.install(Pip(n_failures=1), "http://index") == 0
    assert install.install(Pip(n_failures=2), "http://index") == 1
    assert install.install(Pip(n_failures=1), None) == 1


def test_a_gpu_is_known_by_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not install.has_nvidia(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert install.has_nvidia(tmp_path)
