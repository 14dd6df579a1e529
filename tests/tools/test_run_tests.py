"""The last line of `make test`, from what pytest itself reports."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "run_tests.py"
spec = importlib.util.spec_from_file_location("run_tests", SCRIPT)
assert spec is not None
assert spec.loader is not None
run_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_tests)

MIXED = """
import pytest

def test_fine(): pass

@pytest.mark.parametrize("n", [1, 2])
def test_page(n): pytest.skip("no browser: apt-get install chromium")

def test_sound(): pytest.skip("no PortAudio: apt-get install jackd2 libportaudio2")

@pytest.mark.skipif(True, reason="no recordings")
def test_recordings(): pass

@pytest.mark.xfail
def test_known(): assert False

def test_wrong(): assert False

@pytest.fixture
def broken(): raise OSError

def test_broken(broken): pass
"""


def report(folder: Path, tests: str) -> Path:
    (folder / "test_it.py").write_text(tests)
    written = folder / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={written}"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    return written


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(tmp_path_factory.mktemp("mixed"), MIXED)


def test_what_is_skipped_is_counted_and_one_command_brings_it(mixed: Path) -> None:
    assert run_tests.sentence([mixed]) == (
        "2 tests passed, 2 failed, 4 skipped (1 no recordings); 3 of them run after:"
        " sudo apt-get install chromium jackd2 libportaudio2"
    )


def test_several_reports_are_one(mixed: Path, tmp_path: Path) -> None:
    fine = report(tmp_path, "def test_fine(): pass")
    assert run_tests.sentence([fine]) == "1 tests passed, 0 failed, none skipped"
    assert run_tests.sentence([fine, mixed]).startswith("3 tests passed, 2 failed, 4 skipped")
