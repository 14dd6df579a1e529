from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from textpro_stream.audio.wav import WavWriter
from textpro_stream.errors import ConfigError

RAMP = np.linspace(-0.9, 0.9, 1_000, dtype=np.float32)


@pytest.fixture(params=["nameless", "hidden"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, on a file system with and without nameless files."""
    if request.param == "hidden":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    return tmp_path


def test_pieces_become_one_file(folder: Path) -> None:
    with WavWriter(folder / "a.wav", 22_050) as wav:
        wav.write(RAMP)
        wav.write(RAMP)
        assert not (folder / "a.wav").exists()
    samples, rate_hz = soundfile.read(folder / "a.wav")
    assert rate_hz == 22_050
    assert np.allclose(samples, np.concatenate([RAMP, RAMP]), atol=1 / 32_000)
    assert os.listdir(folder) == ["a.wav"]


def test_too_loud_is_clipped_not_wrapped(folder: Path) -> None:
    with WavWriter(folder / "a.wav", 16_000) as wav:
        wav.write(np.array([2.0, -2.0], np.float32))
    assert soundfile.read(folder / "a.wav")[0] == pytest.approx([1, -1], abs=1e-3)


def test_a_failed_block_leaves_the_old_file(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"old")
    wav = WavWriter(folder / "a.wav", 16_000)

    def interrupted() -> None:
        with wav:
            wav.write(RAMP)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (folder / "a.wav").read_bytes() == b"old"
    assert os.listdir(folder) == ["a.wav"]


def test_a_good_block_replaces_it_and_keeps_links(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"old")
    (folder / "link.wav").symlink_to("a.wav")
    with WavWriter(folder / "link.wav", 16_000) as wav:
        wav.write(RAMP)
    assert (folder / "link.wav").is_symlink()
    assert len(soundfile.read(folder / "a.wav")[0]) == 1_000


def test_the_file_is_as_readable_as_others(folder: Path) -> None:
    with WavWriter(folder / "a.wav", 16_000):
        pass
    (folder / "other").touch()
    assert (folder / "a.wav").stat().st_mode == (folder / "other").stat().st_mode


def test_a_killed_run_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, numpy as np\n"
        "from textpro_stream.audio.wav import WavWriter\n"
        "wav = WavWriter(sys.argv[1], 16_000)\n"
        "wav.write(np.zeros(100_000, np.float32))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "a.wav")], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not (tmp_path / "a.wav").exists()
    if hasattr(os, "O_TMPFILE"):
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["no/such/folder/a.wav", "."])
def test_nowhere_to_write_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        WavWriter(tmp_path / name, 16_000)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_device_is_not_replaced_by_a_file() -> None:
    with pytest.raises(ConfigError, match="is no file"):
        WavWriter("/dev/null", 16_000)
