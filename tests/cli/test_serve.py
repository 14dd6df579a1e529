"""`textpro serve` as a user starts it, up to where models would be loaded."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from processes import command, environment

KEY = "correct-horse-battery-staple"


def run(home: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("serve", *arguments),
        env=environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=60,
    )


def refused(done: subprocess.CompletedProcess[str], fix: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("textpro: ")
    assert done.stderr.count("\n") == 1
    assert fix in done.stderr


def test_other_machines_need_a_key(tmp_path: Path) -> None:
    refused(run(tmp_path, "--host", "0.0.0.0"), "TEXTPRO_SERVER__API_KEY")


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused(run(tmp_path, "--port", taken.getsockname()[1]), "--port another number, or 0")


@pytest.mark.parametrize("port", ["-1", "70000", "http"])
def test_a_port_that_is_none(port: str, tmp_path: Path) -> None:
    refused(run(tmp_path, f"--port={port}"), "--port")


def test_a_short_key_is_not_repeated(tmp_path: Path) -> None:
    done = run(tmp_path, TEXTPRO_SERVER__API_KEY="hunter2")
    refused(done, "at least 22 characters")
    assert "hunter2" not in done.stderr


def test_a_key_is_not_taken_from_the_command_line(tmp_path: Path) -> None:
    refused(run(tmp_path, "--set", f"server.api_key={KEY}"), "put it in the environment")


def test_a_key_is_not_printed(tmp_path: Path) -> None:
    done = run(tmp_path, "--config-dump", TEXTPRO_SERVER__API_KEY=KEY)
    assert done.returncode == 0
    assert "[server]" in done.stdout
    assert KEY not in done.stdout


def test_half_a_certificate(tmp_path: Path) -> None:
    refused(run(tmp_path, "--tls-cert", "a.crt"), "--tls-key")


def test_a_broker_that_is_none(tmp_path: Path) -> None:
    refused(run(tmp_path, "--mqtt", "http://localhost"), "mqtt://")
    refused(run(tmp_path, "--mqtt-forget"), "--mqtt")
