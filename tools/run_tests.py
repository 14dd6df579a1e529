"""Run all tests, the real models last, and say in one line what ran and what was skipped.

    .venv/bin/python tools/run_tests.py      # `make test` runs it

The real models are tested whatever became of the hermetic tests: a machine that lacks a program
shall learn all there is to learn in one run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

BIN = Path(sys.executable).parent
PACKAGES = re.compile(r"apt-get install ((?:[a-z0-9][a-z0-9.+-]*[ ]?)+)")


def outcomes(report: Path) -> Iterator[tuple[str, str]]:
    """Every test of a JUnit report: `passed`, `failed` or `skipped`, and why."""
    for case in ElementTree.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        if skipped is not None and skipped.get("type") == "pytest.xfail":
            yield "passed", ""
        elif skipped is not None:
            yield "skipped", skipped.get("message", "")
        elif case.find("failure") is not None or case.find("error") is not None:
            yield "failed", ""
        else:
            yield "passed", ""


def sentence(reports: Iterable[Path]) -> str:
    """One line: what ran, what was skipped, and the command that brings it."""
    told = [outcome for report in reports for outcome in outcomes(report)]
    count = Counter(what for what, _ in told)
    reasons = Counter(why for what, why in told if what == "skipped")
    line = f"{count['passed']} tests passed, {count['failed']} failed, "
    if not reasons:
        return line + "none skipped"
    line += f"{reasons.total()} skipped"
    packages = sorted({name for why in reasons for name in _packages(why)})
    others = [f"{n} {why}" for why, n in sorted(reasons.items()) if not _packages(why)]
    wanting = sum(n for why, n in reasons.items() if _packages(why))
    if others:
        line += f" ({'; '.join(others)})"
    if packages:
        line += f"; {wanting} of them run after: sudo apt-get install {' '.join(packages)}"
    return line


def _packages(why: str) -> list[str]:
    found = PACKAGES.search(why)
    return found[1].split() if found else []


def main() -> int:
    """Run it; give the first status that is not 0."""
    with tempfile.TemporaryDirectory() as folder:
        hermetic, real = Path(folder) / "hermetic.xml", Path(folder) / "real.xml"
        try:
            tested = _run("pytest", "-m", "not weights and not gpu", f"--junitxml={hermetic}")
            fetched = _run("textpro", "models", "pull", "--defaults")
            if fetched == 0:
                fetched = _run("pytest", "-m", "weights and not gpu", f"--junitxml={real}")
        except KeyboardInterrupt:
            return 130
        line = sentence(report for report in (hermetic, real) if report.exists())
        if not real.exists():
            line += "; no real model was tested, the weights could not be fetched"
    print(f"make test: {line}")
    return tested or fetched


def _run(program: str, *arguments: str) -> int:
    process = subprocess.Popen([BIN / program, *arguments])
    try:
        return process.wait()
    except KeyboardInterrupt:  # it has got it too, and ends what it started
        process.wait()
        raise


if __name__ == "__main__":
    sys.exit(main())
