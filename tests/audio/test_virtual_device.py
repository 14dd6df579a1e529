"""Loudspeaker into microphone through PortAudio and JACK's dummy sound card, in real time.

Runs where Debian's jackd2 and libportaudio2 are installed; nobody needs them otherwise.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

SERVER = f"textpro-test-{os.getpid()}"
SESSION = """
import asyncio, json, subprocess, time
import numpy as np
from textpro_stream.audio.microphone import Microphone
from textpro_stream.audio.speaker import Loudspeaker
from textpro_stream.contracts import SpokenChunk

RATE = 22_050

async def session():
    microphone, speaker, chunks = Microphone("system"), Loudspeaker("system"), []

    async def listen():
        async for chunk in microphone.chunks():
            chunks.append((time.monotonic(), chunk))

    subprocess.run(["jack_connect", "PortAudio:out_0", "PortAudio:in_0"], check=True)
    listening = asyncio.create_task(listen())
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE).astype(np.float32)
    for start in range(0, len(tone), 2_205):
        speaker.play(SpokenChunk(tone[start : start + 2_205], RATE, start, 0))
    await asyncio.sleep(0.7)
    moment, heard = time.monotonic(), speaker.clear()
    await asyncio.sleep(0.4)
    microphone.close()
    await listening
    speaker.close()
    samples = np.concatenate([chunk.samples for _, chunk in chunks])
    return {
        "heard_s": heard / RATE,
        "recorded_s": float(np.ptp(np.flatnonzero(np.abs(samples) > 0.1))) / 16_000,
        "last_s": max(t for t, c in chunks if np.abs(c.samples).max() > 0.1) - moment,
        "underruns": speaker.n_underruns,
        "dropped": microphone.n_dropped,
    }

print(json.dumps(asyncio.run(session())))
"""


@pytest.fixture
def jack(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A sound card that plays and records into nowhere, in steps of 10 ms."""
    if not shutil.which("jackd"):
        pytest.skip("no sound server: apt-get install jackd2 libportaudio2")
    monkeypatch.setenv("JACK_DEFAULT_SERVER", SERVER)
    options = ["--no-realtime", "-d", "dummy", "-r", "48000", "-p", "480", "-C", "1", "-P", "1"]
    server = subprocess.Popen(
        ["jackd", "-n", SERVER, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        subprocess.run(["jack_wait", "-s", SERVER, "-w", "-t", "10"], check=True)
        yield
    finally:
        server.terminate()
        server.wait()


@pytest.mark.usefixtures("jack")
def test_what_is_played_is_heard_and_stops_at_once() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SESSION], capture_output=True, text=True, timeout=60, check=False
    )
    if "libportaudio2" in run.stderr:
        pytest.skip("no PortAudio: apt-get install jackd2 libportaudio2")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["dropped"] == 0
    assert result["heard_s"] == pytest.approx(result["recorded_s"], abs=0.1)
    assert 0.4 < result["recorded_s"] < 0.9
    assert result["last_s"] < 0.2  # 20 to 30 ms here: a block and the resampler's delay
