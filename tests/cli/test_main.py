"""Statuses, one-line errors, and that help is quick because nothing heavy is imported."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from textpro_stream.cli.main import COMMANDS, main

HEAVY = ("torch", "numpy", "transformers", "rich", "onnxruntime", "sounddevice", "soundfile")


def test_help_teaches_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from textpro_stream.cli.main import main; status = main(['--help']);"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]; sys.exit(status or bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout
    for name in COMMANDS:
        assert name in done.stdout


def test_torch_is_not_imported_before_its_threads_are_told_to_wait_quietly() -> None:
    script = (
        "import sys, textpro_stream.pipeline, textpro_stream.cli.stream, textpro_stream.cli.demo,"
        " textpro_stream.store; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: textpro {name}" in capsys.readouterr().out


def test_without_a_command_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["strem"], "did you mean 'stream'?"),
        (["stream", "--fats", "x.wav"], "did you mean '--fast'?"),
        (["stream"], "name a sound file"),
        (["stream", "--vad", "silera", "x.wav"], "did you mean 'silero'?"),
        (["stream", "--block", "lots", "x.wav"], "whisper.block_ms"),
        (["stream", "--rate", "fast", "-"], "--rate"),
        (["stream", "--set", "turn.silense_ms=3", "x.wav"], "turn.silence_ms"),
        (["stream", "--config", "none.toml", "x.wav"], "none.toml"),
        (["models"], "ACTION"),
        (["models", "pull"], "--defaults"),
        (["models", "where", "tinny.en"], "tiny.en"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.startswith("textpro: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_config_dump_is_toml_with_flags_in_force(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stream", "--silence", "700", "--dtype", "bfloat16", "--config-dump"]) == 0
    dumped = tomllib.loads(capsys.readouterr().out)
    assert dumped["turn"]["silence_ms"] == 700
    assert dumped["whisper"]["dtype"] == dumped["llm"]["dtype"] == "bfloat16"


def test_an_unexpected_error_is_one_line_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(args: object, settings: object) -> int:
        raise ZeroDivisionError("twice\nover")

    monkeypatch.delenv("TEXTPRO_DEBUG", raising=False)
    monkeypatch.setattr("textpro_stream.cli.models.run", broken)
    assert main(["models", "list"]) == 1
    err = capsys.readouterr().err
    assert "ZeroDivisionError: twice over" in err
    assert "TEXTPRO_DEBUG=1" in err
    monkeypatch.setenv("TEXTPRO_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["models", "list"])


class TestBadInput:
    """Found before any model is loaded: these run with an empty cache and no network."""

    @pytest.fixture
    def bad(self, tmp_path: Path) -> list[Path]:
        empty, text, header = (tmp_path / n for n in ("empty.wav", "text.wav", "header.wav"))
        empty.touch()
        text.write_text("this is not audio\n")
        size = (36).to_bytes(4, "little")
        fmt = b"fmt \x10\x00\x00\x00\x01\x00\x01\x00\x80>\x00\x00\x00}\x00\x00\x02\x00\x10\x00"
        header.write_bytes(b"RIFF" + size + b"WAVE" + fmt + b"data\x00\x00\x00\x00")
        return [tmp_path / "missing.wav", empty, text, header, tmp_path]

    def test_each_is_one_line_and_status_2(self, textpro, bad: list[Path]) -> None:
        for path in bad:
            done = textpro("stream", "--fast", path)
            assert done.returncode == 2, path
            assert done.stderr.count("\n") == 1
            assert str(path) in done.stderr
            assert "Traceback" not in done.stderr

    def test_json_tells_programs_the_same(self, textpro, bad: list[Path]) -> None:
        done = textpro("stream", "--fast", "--json", *bad[:2])
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == 2
        assert [(e["type"], e["source"]) for e in lines] == [
            (kind, str(path)) for path in bad[:2] for kind in ("error", "source.done")
        ]
        assert {e["code"] for e in lines if e["type"] == "error"} == {"audio_format"}

    def test_a_reply_wav_that_cannot_be_written_is_refused_at_once(self, textpro) -> None:
        done = textpro("stream", "--reply-wav", "no/such/folder/r.wav", "x.wav")
        assert done.returncode == 2
        assert "no/such/folder" in done.stderr
        assert done.stderr.count("\n") == 1


def test_models_list_shows_what_is_not_here(textpro) -> None:
    done = textpro("models", "list")
    assert done.returncode == 0
    assert "tiny.en" in done.stdout
    assert "not here" in done.stdout


def test_doctor_names_what_is_missing(textpro) -> None:
    done = textpro("doctor")
    assert done.returncode == 1
    assert "textpro models pull tiny.en" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    script = (
        "import sys; from textpro_stream.cli.main import main;"
        "sys.stdout.reconfigure(line_buffering=True);"
        "sys.exit(main(['--config-dump']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert err == b""
    assert process.returncode == 141


@pytest.mark.parametrize("name", ["stream", "talk", "serve"])
def test_tone_of_voice_can_be_switched_off(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--no-tone", "--config-dump"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["prosody"]["tone"] is False
