"""`textpro` with the default models on a spoken question: a process, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from processes import command, environment

from textpro_stream.store import cache_root

pytestmark = pytest.mark.weights

QUESTION = str(files("textpro_stream") / "assets" / "question.flac")


@pytest.fixture
def real(textpro):
    """With the models of whoever runs the tests."""
    cache = str(cache_root())
    return lambda *arguments: textpro(*arguments, TEXTPRO_CACHE=cache)


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def only(lines: list[dict[str, object]], kind: str) -> list[dict[str, object]]:
    return [line for line in lines if line["type"] == kind]


def test_a_spoken_question_is_answered(real, tmp_path: Path) -> None:
    done = real(
        "stream", "--fast", "--json", "--reply-wav", "reply.wav", "--trace", "t.json", QUESTION
    )
    assert done.returncode == 0, done.stderr
    lines = events(done)
    (endpoint,) = only(lines, "turn.endpoint")
    committed = only(lines, "transcript.committed")
    assert "".join(str(e["text"]) for e in committed) == endpoint["transcript"]
    assert "photosynthesis" in str(endpoint["transcript"]).lower()
    assert only(lines, "prosody.window")
    (reply,) = only(lines, "reply.done")
    assert "".join(str(e["text"]) for e in only(lines, "reply.delta")) == reply["text"] != ""
    audio = only(lines, "speech.audio")
    spoken_s = sum(float(e["duration_s"]) for e in audio)
    assert soundfile.info(tmp_path / "reply.wav").duration == pytest.approx(spoken_s, abs=0.01)
    assert lines[-1]["type"] == "source.done"
    assert lines[-1]["turns"] == 1
    names = {e["name"] for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"]}
    assert {"encoder", "decoder", "prefill", "decode", "vad"} <= names
    (latency,) = only(lines, "turn.latency")
    chain = [float(latency["endpoint_wait"])]
    at = 0.0
    for mark in ("asr_final", "first_token", "first_clause", "tts_first", "first_audio"):
        at = max(at, float(latency[mark]))
    chain.append(at)
    assert sum(chain) == pytest.approx(float(latency["server_perceived"]), abs=0.010)


def test_the_pace_changes_nothing_that_was_heard_or_said(real) -> None:
    told = []
    for pace in ([], ["--fast"]):
        lines = events(real("stream", *pace, "--json", "--no-speech", QUESTION))
        heard = [
            {key: value for key, value in line.items() if key != "wall_s"}
            for line in lines
            if str(line["type"]).startswith(
                ("transcript", "turn.e", "turn.r", "prosody", "speech.s")
            )
        ]
        told.append((heard, [line["text"] for line in only(lines, "reply.done")]))
    assert told[0] == told[1]


def test_silence_and_noise_get_no_words_and_no_reply(real, tmp_path: Path) -> None:
    noise = np.random.default_rng(7).normal(0, 0.05, 5 * 16_000).astype(np.float32)
    soundfile.write(tmp_path / "silence.wav", np.zeros(5 * 16_000, np.float32), 16_000)
    soundfile.write(tmp_path / "noise.wav", noise, 16_000)
    done = real("stream", "--fast", "--json", "silence.wav", "noise.wav")
    assert done.returncode == 0, done.stderr
    kinds = {line["type"] for line in events(done)}
    assert not kinds & {"transcript.committed", "reply.started", "reply.done"}
    assert [line["words"] for line in only(events(done), "source.done")] == [0, 0]


def test_a_bad_file_does_not_stop_the_next(real, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_text("nonsense")
    done = real("stream", "--fast", "--json", "--no-reply", "bad.wav", QUESTION)
    assert done.returncode == 1
    assert [e["source"] for e in only(events(done), "source.done")] == ["bad.wav", QUESTION]
    assert "photosynthesis" in done.stdout.lower()


def test_any_rate_and_any_channels_say_the_same(real, tmp_path: Path) -> None:
    samples, rate = soundfile.read(QUESTION, dtype="float32")
    for name, wanted, channels in (("phone.wav", 8_000, 1), ("studio.flac", 96_000, 6)):
        other = soxr.resample(samples, rate, wanted)
        soundfile.write(tmp_path / name, np.repeat(other[:, None], channels, 1), wanted)
    broken = samples.copy()
    broken[::1000] = np.nan
    broken[5::1000] = np.inf
    soundfile.write(tmp_path / "nan.wav", broken, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "clipped.ogg", np.clip(samples * 8, -1, 1), rate)
    whole = (tmp_path / "phone.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) * 9 // 10])
    names = ("phone.wav", "studio.flac", "nan.wav", "clipped.ogg", "cut.wav")
    done = real("stream", "--fast", "--json", "--no-reply", *names)
    assert done.returncode == 0, done.stderr
    for name in names:
        said = [
            str(e["transcript"]) for e in only(events(done), "turn.endpoint") if e["source"] == name
        ]
        assert "tell me" in " ".join(said).lower(), (name, said)
    assert "Traceback" not in done.stderr


def test_a_pipe_is_heard(real, tmp_path: Path) -> None:
    samples, rate = soundfile.read(QUESTION, dtype="int16")
    process = subprocess.run(
        command("stream", "--fast", "--json", "--no-reply", "--rate", rate, "-"),
        input=samples.tobytes(),
        capture_output=True,
        env=environment(tmp_path, TEXTPRO_CACHE=str(cache_root())),
        timeout=120,
        check=True,
    )
    assert b"photosynthesis" in process.stdout.lower()


def test_the_demo_without_a_terminal_prints_lines_and_leaves_a_wav(real, tmp_path: Path) -> None:
    done = real("demo")
    assert done.returncode == 0, done.stderr
    assert "photosynthesis" in done.stdout
    assert "latency" in done.stdout
    _, even, agitated = re.findall(r"^== .*?(?=^== |\Z)", done.stdout, re.MULTILINE | re.DOTALL)
    assert "agitated" not in even.partition("\n")[2]
    assert re.search(r"sounds +.*agitated", agitated)
    turns, replies = (
        [re.search(rf"{kind} +(.*?)  \[", part)[1] for part in (even, agitated)]
        for kind in ("turn", "reply")
    )
    assert turns[0] == turns[1]  # the same words
    assert replies[0] != replies[1]
    told = re.search(r"spoken replies: (\S+)", done.stdout)
    assert told is not None
    assert soundfile.info(told[1]).duration > 1
    assert list(tmp_path.glob("*.wav")) == []  # where it was started, it leaves nothing


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("wait_for", ["speech.started", "reply.started", None])
def test_interrupting_ends_it_at_once(
    tmp_path: Path, number: signal.Signals, wait_for: str | None
) -> None:
    process = subprocess.Popen(
        command("stream", "--json", "--reply-wav", "reply.wav", QUESTION),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(tmp_path, TEXTPRO_CACHE=str(cache_root())),
    )
    assert process.stdout is not None
    if wait_for is None:
        time.sleep(1.0)  # somewhere in the loading of models
    else:
        for line in process.stdout:
            if json.loads(line)["type"] == wait_for:
                break
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    # 1 s on a machine that does nothing else; the shared ones of CI are given more
    assert time.monotonic() - began < 3.0
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert not [name for name in os.listdir(tmp_path) if not name.startswith(".cache")]
