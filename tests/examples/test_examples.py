"""Every example runs as its docstring says, on the clip in the repo, through the real models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SHOWN = {  # what a reader would look for in the output
    "ask_and_save.py": "spoken reply in",
    "tone_of_voice.py": "dBFS",
    "transcribe_file.py": "photosynthesis",
    "type_a_question.py": "Paris",
}
BESIDE_A_SERVER = {"mqtt_state.py"}  # tests/server runs these


def test_the_list_is_complete() -> None:
    assert {path.name for path in EXAMPLES} == set(SHOWN) | BESIDE_A_SERVER


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_on_a_page(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.weights
@pytest.mark.parametrize("name", SHOWN)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    path = ROOT / "examples" / name
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert SHOWN[name] in done.stdout
    assert "Traceback" not in done.stderr
