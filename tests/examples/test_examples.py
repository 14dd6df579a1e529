"""Every example runs as its docstring says, on the clip in the repo, through the real models."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import command, environment

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SHOWN = {  # what a reader would look for in the output
    "ask_and_save.py": "spoken reply in",
    "tone_of_voice.py": "dBFS",
    "transcribe_file.py": "photosynthesis",
    "type_a_question.py": "Paris",
}
BESIDE_A_SERVER = {  # run below, and in tests/server/mqtt
    "mqtt_state.py",
    "realtime_sdk.py",
    "stream_over_websocket.py",
    "talk_over_websocket.py",
}
ALONE = [path for path in EXAMPLES if path.name in SHOWN]


def test_the_list_is_complete() -> None:
    assert {path.name for path in EXAMPLES} == set(SHOWN) | BESIDE_A_SERVER


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_on_a_page(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.weights
@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    done = run([path], tmp_path)
    assert done.returncode == 0, done.stderr
    assert SHOWN[path.name] in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.weights
def test_a_file_is_streamed_to_a_server(tmp_path: Path) -> None:
    path = ROOT / "examples" / "stream_over_websocket.py"
    question = ROOT / "textpro_stream" / "assets" / "question.flac"
    with serve(tmp_path) as url:
        done = run([path, question, url], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "photosynthesis" in done.stdout


@pytest.mark.weights
def test_the_openai_package_talks_to_a_server(tmp_path: Path) -> None:
    path = ROOT / "examples" / "realtime_sdk.py"
    question = ROOT / "textpro_stream" / "assets" / "question.flac"
    with serve(tmp_path) as url:
        base = url.replace("ws://", "http://").removesuffix("/stream")
        done = run([path, question, base], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert "photosynthesis" in done.stdout
    assert "spoken reply in reply.wav" in done.stdout
    assert "Traceback" not in done.stderr


def test_talking_without_a_microphone_says_so(tmp_path: Path) -> None:
    path = ROOT / "examples" / "talk_over_websocket.py"
    done = run([path], tmp_path)
    # No sound card, no PortAudio to look for one, or a microphone and no server.
    said = ("no microphone", "need the PortAudio library", "nobody answers")
    assert any(one in done.stderr for one in said), done.stderr
    assert "Traceback" not in done.stderr


def run(arguments: list[object], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@contextmanager
def serve(home: Path) -> Iterator[str]:
    """`textpro serve` as a user starts it; gives the address for scripts."""
    kept = {"HOME": os.environ["HOME"]}  # where the models are
    process = subprocess.Popen(
        command("serve", "--port", 0),
        env={**environment(home), **kept},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"ws://\S+/v1/stream", line):
                yield found[0]
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
