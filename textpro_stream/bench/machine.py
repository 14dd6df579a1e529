"""What a figure was measured on, and how busy that was with other things meanwhile."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import textpro_stream
from textpro_stream.config import Settings

PACKAGES = ("torch", "onnxruntime", "numpy", "websockets")


def environment(settings: Settings) -> dict[str, Any]:
    """Machine, versions and models, as plain values."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "version": textpro_stream.__version__,
        "processor": processor(),
        "cores": usable_cores(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "models": {
            "asr": settings.whisper.model,
            "llm": settings.llm.model,
            "voice": f"{settings.speech.engine} {settings.speech.voice}",
            "vad": settings.turn.vad,
        },
        "endpoint_ms": {
            "eager": settings.turn.eager_ms,
            "silence": settings.turn.silence_ms,
            "silence_long": settings.turn.silence_long_ms,
        },
    }


def processor() -> str:
    """Its name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LoadMeter:
    """CPU time that others took between two readings. Linux tells; elsewhere only the load is."""

    def __init__(self) -> None:
        self._at, self._busy = busy_seconds()
        self._own = 0.0

    def read(self, own_cpu_s: float) -> dict[str, float]:
        """Since the last reading.

        Args:
            own_cpu_s: CPU seconds that client and server have used since they began.

        Returns:
            `load1`, the system's load average; `own` and `others`, cores busy with client and
            server and with anything else (the voice's process too), where that is known.
        """
        figures = {"load1": round(os.getloadavg()[0], 2)} if hasattr(os, "getloadavg") else {}
        at, busy = busy_seconds()
        if at > self._at:
            own = own_cpu_s - self._own
            figures["own"] = round(own / (at - self._at), 3)
            figures["others"] = round(max(0.0, busy - self._busy - own) / (at - self._at), 3)
        self._at, self._busy, self._own = at, busy, own_cpu_s
        return figures


def busy_seconds(stat: Path = Path("/proc/stat")) -> tuple[float, float]:
    """(seconds that went by, CPU seconds that all cores were busy), both since the system began.

    Zeros where the system does not tell.
    """
    try:
        words = stat.read_text().split("\n", 1)[0].split()[1:]
        ticks = os.sysconf("SC_CLK_TCK")
        n_cores = os.cpu_count() or 1
    except (OSError, ValueError, AttributeError):
        return 0.0, 0.0
    values = [int(word) / ticks for word in words[:8]]  # guests are counted within user time
    idle = values[3] + values[4]
    return sum(values) / n_cores, sum(values) - idle


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
