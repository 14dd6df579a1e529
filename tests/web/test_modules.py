"""The page's pure modules under Node, and all of them under the TypeScript compiler."""

import subprocess
from pathlib import Path

import pytest
from web.node import AIDS, node

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "web"
TSC = AIDS / "node_modules" / "typescript" / "bin" / "tsc"


def succeed(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("tests", sorted(HERE.glob("*.test.mjs")), ids=lambda path: path.stem)
def test_pure_modules(tests: Path) -> None:
    succeed(node(), "--test", str(tests))


def test_types() -> None:
    if not TSC.exists():
        pytest.skip("no TypeScript: make .venv-tests/.installed, with a network")
    succeed(node(), str(TSC), "-p", str(WEB / "jsconfig.json"))


@pytest.mark.parametrize(
    "module", sorted((WEB / "js").rglob("*.js")), ids=lambda path: str(path.relative_to(WEB))
)
def test_every_module_asks_to_be_checked(module: Path) -> None:
    assert module.read_text().startswith("// @ts-check\n")
