"""`textpro` where the environment is not as one would wish."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import command, environment


def run(tmp_path: Path, shell: str, *arguments: object, **more: str) -> tuple[int, str, str]:
    """A command behind `exec`, with what a shell does to its streams."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *command(*arguments)],
        cwd=tmp_path,
        env=environment(tmp_path, **more),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")


def test_the_package_is_a_command_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "textpro_stream", "--version"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        check=True,
    )
    assert done.stdout


@pytest.mark.parametrize("encoding", ["iso-8859-1", "ascii", "cp437"])
def test_what_a_terminal_cannot_show_becomes_ascii(tmp_path: Path, encoding: str) -> None:
    status, out, err = run(tmp_path, "", "stream", "--help", PYTHONIOENCODING=encoding)
    assert (status, err) == (0, "")
    assert "hub name or folder" in out
    assert "large-v3 ..." in out


def test_json_is_utf_8_whatever_the_terminal_is(tmp_path: Path) -> None:
    name = "fählt.wav"
    status, out, _ = run(tmp_path, "", "stream", "--json", name, PYTHONIOENCODING="iso-8859-1")
    assert status == 2
    assert name in out.encode("latin-1").decode("utf-8")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_streams_are_no_crash(tmp_path: Path, closed: str) -> None:
    status, _, err = run(tmp_path, closed, "stream", "none.wav")
    assert status == 2
    assert "unexpected" not in err


def test_a_closed_pipe_is_named(tmp_path: Path) -> None:
    status, _, err = run(tmp_path, "<&-", "stream", "-")
    assert status == 2
    assert "standard input is closed" in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["--config-dump"], ["stream", "none.wav"]])
def test_a_full_disk_is_one_line_and_status_1(tmp_path: Path, arguments: list[str]) -> None:
    status, _, err = run(tmp_path, "> /dev/full", *arguments)
    assert status == 1
    assert "make room on the disk" in err
    assert "unexpected" not in err
    assert "Traceback" not in err


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(gone), *command("doctor")],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "cd to one that exists" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_user_without_a_home_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from textpro_stream.cli.main import main

    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("TEXTPRO_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert main(["models", "list"]) == 2
    assert "TEXTPRO_CACHE" in capsys.readouterr().err
