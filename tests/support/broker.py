"""A real MQTT broker as a process of its own, that tests may kill, stop and start again.

mosquitto where it is installed; otherwise amqtt, a broker in Python that needs an environment of
its own (`make .venv-tests/.installed`) because it pins another `websockets` than ours.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
USER, PASSWORD = "house", "open sesame"
SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """One broker on one port of this machine; the port stays through restarts."""

    def __init__(
        self, folder: Path, *, tls: tuple[Path, Path] | None = None, anonymous: bool = False
    ) -> None:
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._folder, self._tls, self._anonymous = folder, tls, anonymous
        folder.mkdir(exist_ok=True)
        self._command = self._mosquitto() or self._amqtt()

    def _mosquitto(self) -> list[str] | None:
        program = shutil.which("mosquitto", path=SBIN)
        makes_passwords = shutil.which("mosquitto_passwd", path=SBIN)
        if (
            program is None
            or makes_passwords is None
            or os.environ.get("TEXTPRO_BROKER") == "amqtt"
        ):
            return None
        passwords, config = self._folder / "passwords", self._folder / "mosquitto.conf"
        passwords.touch(mode=0o600)
        subprocess.run(
            [makes_passwords, "-b", passwords, USER, PASSWORD], check=True, capture_output=True
        )
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {str(self._anonymous).lower()}",
            f"password_file {passwords}",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it becomes one that cannot read our folder
        if self._tls:
            lines += [f"certfile {self._tls[0]}", f"keyfile {self._tls[1]}"]
        config.write_text("\n".join(lines) + "\n")
        return [program, "-c", str(config)]

    def _amqtt(self) -> list[str]:
        programs = ROOT / ".venv-tests/bin"
        if not (programs / "amqtt").exists():
            pytest.skip("no MQTT broker: apt-get install mosquitto")
        passwords, config = self._folder / "passwords", self._folder / "amqtt.yaml"
        hashed = subprocess.run(
            [
                programs / "python",
                "-c",
                "import sys; from pwdlib import PasswordHash; "
                "print(PasswordHash.recommended().hash(sys.argv[1]))",
                PASSWORD,
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        passwords.write_text(f"{USER}:{hashed}\n")
        listener = [f"    bind: 127.0.0.1:{self.port}", "    type: tcp"]
        if self._tls:
            listener += [
                "    ssl: on",
                f"    certfile: {self._tls[0]}",
                f"    keyfile: {self._tls[1]}",
            ]
        anyone = ["  amqtt.plugins.authentication.AnonymousAuthPlugin:"]
        known = [
            "  amqtt.plugins.authentication.FileAuthPlugin:",
            f"    password_file: {passwords}",
        ]
        config.write_text(
            "\n".join(
                [
                    "listeners:",
                    "  default:",
                    *listener,
                    "plugins:",
                    *(anyone if self._anonymous else known),
                ]
            )
        )
        return [str(programs / "amqtt"), "-c", str(config)]

    def start(self) -> None:
        log = (self._folder / "log").open("ab")
        self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        log.close()
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text())

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def url(self, path: str = "/test/node", *, user: str = USER) -> str:
        scheme = "mqtts" if self._tls else "mqtt"
        return f"{scheme}://{user}@localhost:{self.port}{path}"
