"""`textpro train encoder`, from a manifest to a file that a recogniser loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch
from tiny_whisper import listening_model, melody, save

from textpro_stream.cli.main import main
from textpro_stream.config import WhisperOptions
from textpro_stream.whisper import WhisperPro


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(listening_model(), tmp_path_factory.mktemp("listening"))


def manifest(folder: Path, n_speakers: int = 3) -> Path:
    lines = []
    for i in range(6):
        soundfile.write(folder / f"{i}.wav", melody(2.5, i), 16_000)
        entry = {"id": f"c{i}", "audio": f"{i}.wav", "speaker": f"s{i % n_speakers}"}
        lines.append(json.dumps(entry | ({"language": "de"} if i == 5 else {})))
    path = folder / "speech.jsonl"
    path.write_text("\n".join(lines))
    return path


def command(folder: Path, path: Path, *more: str) -> list[str]:
    arguments = ["train", "encoder", "--asr", str(folder), "--threads", "1", "--device", "cpu"]
    arguments += ["--manifest", str(path), "--out", str(path.parent / "run"), "--held-out", "s1"]
    return [*arguments, "--steps", "2", "--accumulate", "2", "--rank", "2", *more]


def test_from_a_manifest_to_an_adapter(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(tmp_path)
    assert main(command(folder, path, "--noise", str(path))) == 0
    told = capsys.readouterr().out
    assert "3 clips of 2 speakers" in told  # one more is German, two are held out
    assert "held out: 2 clips of 1 speaker" in told
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 2]
    adapter = str(tmp_path / "run/encoder.safetensors")
    WhisperPro.load(folder, WhisperOptions(adapter=adapter), torch.device("cpu"))
    assert main(command(folder, path, "--noise", str(path))) == 0  # nothing is left to do
    assert "going on at step 2 of 2" in capsys.readouterr().out


def test_what_cannot_be_trained_on_says_what_to_give(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(tmp_path)
    assert main(command(folder, path, "--losses", "words=1")) == 2
    assert "give some of states, tokens, middle" in capsys.readouterr().err
    path = manifest(tmp_path, n_speakers=1)
    assert main(command(folder, path, "--held-out", "nobody")) == 2
    assert "held out; give more speakers" in capsys.readouterr().err
    assert main(command(folder, path, "--language", "xx", "--held-out", "s0")) == 2
    assert "name some in --held-out" in capsys.readouterr().err
    assert main(command(folder, tmp_path / "none.jsonl")) == 2
    assert "give a JSONL file" in capsys.readouterr().err
