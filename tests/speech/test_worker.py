from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable

import pytest

from textpro_stream.speech import worker


class Parrot:
    """Says a text as its bytes, and fails on demand."""

    rate_hz = 8_000

    def speak(
        self,
        text: str,
        pause: bool,
        rate_wpm: int,
        audio: Callable[[bytes], bool],
        word: Callable[[int, int], None],
    ) -> None:
        if text == "fail":
            raise RuntimeError("no\nvoice")
        word(0, 0)
        audio(text.upper().encode() if pause else text.encode())


def manner(pause: bool) -> bytes:
    return worker.MANNER.pack(pause, 165)


class Ended(Exception):
    pass


def converse(monkeypatch: pytest.MonkeyPatch, *requests: tuple[bytes, int, bytes]) -> list[object]:
    """What a worker replies; its input's end ends the worker, not the test."""
    data = b"".join(worker.HEADER.pack(k, n, len(p)) + p for k, n, p in requests)
    replies = io.BytesIO()
    run = worker.Worker(io.BytesIO(data), replies)
    monkeypatch.setattr(worker.os, "_exit", lambda code: None)
    run._listen()

    def get() -> tuple[int, bytes]:
        if run._waiting.empty():
            raise Ended
        return waiting.get()

    waiting = run._waiting
    run._waiting = type("Waiting", (), {"get": staticmethod(get), "empty": waiting.empty})()
    run._requests = io.BytesIO()
    with pytest.raises(Ended):
        run.run(Parrot())
    replies.seek(0)
    messages = []
    while header := replies.read(worker.HEADER.size):
        kind, number, length = worker.HEADER.unpack(header)
        messages.append((kind, number, replies.read(length)))
    return messages


def test_it_speaks_in_turn_and_leaves_out_what_was_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages = converse(
        monkeypatch,
        (worker.SPEAK, 1, manner(True) + b"one"),
        (worker.SPEAK, 2, manner(False) + b"two"),
        (worker.CANCEL, 2, b""),
        (worker.SPEAK, 3, manner(False) + b"fail"),
        (worker.SPEAK, 4, manner(False) + b"four"),
    )
    mark = worker.WORD_MARK.pack(0, 0)
    assert messages == [
        (worker.READY, 0, worker.RATE.pack(8_000)),
        (worker.WORD, 1, mark),
        (worker.AUDIO, 1, b"ONE"),
        (worker.DONE, 1, b""),
        (worker.DONE, 2, b""),
        (worker.FAILED, 3, b"RuntimeError: no voice"),
        (worker.DONE, 3, b""),
        (worker.WORD, 4, mark),
        (worker.AUDIO, 4, b"four"),
        (worker.DONE, 4, b""),
    ]


def test_it_ends_with_its_input_and_keeps_its_output_clean() -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-m", worker.__name__, "espeak", "en-us"],
        input=b"",
        capture_output=True,
        check=True,
        timeout=60,
    )
    kind, utterance, length = worker.HEADER.unpack(run.stdout[: worker.HEADER.size])
    assert (kind, utterance, length) == (worker.READY, 0, 4)
    assert len(run.stdout) == worker.HEADER.size + 4
    assert run.stderr == b""


def test_it_starts_without_what_it_does_not_need() -> None:
    heavy = "numpy torch asyncio soundfile transformers"
    script = (
        "import sys; import textpro_stream.speech.worker, textpro_stream.speech.espeak;"
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert run.stdout.strip() == b"[]"
