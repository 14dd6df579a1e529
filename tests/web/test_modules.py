"""The page's pure modules under Node, and all of them under the TypeScript compiler."""

import shutil
import subprocess
from pathlib import Path

import playwright
import pytest

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "web"


def node() -> str:
    """Node from the system, or the one that Playwright brings along."""
    bundled = Path(playwright.__file__).parent / "driver" / "node"
    found = shutil.which("node") or (str(bundled) if bundled.exists() else None)
    if found is None:
        pytest.skip("node is not installed: apt install nodejs")
    return found


def succeed(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("tests", sorted(HERE.glob("*.test.mjs")), ids=lambda path: path.stem)
def test_pure_modules(tests: Path) -> None:
    succeed(node(), "--test", str(tests))


def test_types() -> None:
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("tsc is not installed: npm install -g typescript")
    succeed(tsc, "-p", str(WEB / "jsconfig.json"))


@pytest.mark.parametrize(
    "module", sorted((WEB / "js").rglob("*.js")), ids=lambda path: str(path.relative_to(WEB))
)
def test_every_module_asks_to_be_checked(module: Path) -> None:
    assert module.read_text().startswith("// @ts-check\n")
