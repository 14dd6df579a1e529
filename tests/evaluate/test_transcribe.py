"""One clip three ways: with a small model that listens, through the command itself."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import soundfile
from tiny_whisper import listening_model, melody, save, silence

from textpro_stream.config import Settings, TurnOptions, WhisperOptions
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.evaluate import transcribe
from textpro_stream.evaluate.manifest import Item
from textpro_stream.evaluate.score import Errors
from textpro_stream.evaluate.side_by_side import Row, worst
from textpro_stream.evaluate.tally import points_interval
from textpro_stream.evaluate.ways import Told, n_revised


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = save(listening_model(), tmp_path_factory.mktemp("listening"))
    return Settings(
        whisper=WhisperOptions(model=str(folder)), turn=TurnOptions(vad="webrtc", threshold=0.1)
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    lines = []
    for name, duration_s in (("short", 3.0), ("long", 6.0)):
        audio = [*silence(1.0), *melody(duration_s, 4), *silence(2.0)]
        soundfile.write(tmp_path / f"{name}.wav", audio, SAMPLE_RATE)
        entry = {"id": name, "audio": f"{name}.wav", "text": "what was said", "kind": name}
        lines.append(json.dumps(entry))
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def kept(settings: Settings, tmp_path: Path) -> Path:
    """The library's side, as an earlier run left it: it cannot read these small folders."""
    said = {"text": "the a", "words": [{"text": " the", "at_s": 1.5}, {"text": " a", "at_s": 2.0}]}
    path = tmp_path / "kept.json"
    path.write_text(
        json.dumps({f"{settings.whisper.model}, library": {"short": said, "long": said}})
    )
    return path


def measure(settings: Settings, *words: object) -> int:
    parser = argparse.ArgumentParser()
    transcribe.add_arguments(parser)
    return transcribe.run(parser.parse_args([str(word) for word in words]), settings)


def test_each_way_has_its_column_and_its_texts(
    settings: Settings,
    manifest: Path,
    kept: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = tmp_path / "figures.json"
    assert measure(settings, manifest, "--reference", kept, "--json", figures) == 0
    lines = capsys.readouterr().out.splitlines()
    for way in ("offline", "conversation", "alone"):
        assert any(line.startswith(way) and "WER" in line for line in lines)
    found = json.loads(figures.read_text())
    assert all(text for texts in found["texts"].values() for text in texts)  # each heard words
    for way in ("conversation", "alone"):
        assert found[way]["cpu_per_audio_s"] > 0
        assert found[way]["work"]["tokens_committed"] > 0
    # The recogniser alone hears all of it, a conversation only what may be speech.
    heard = [found[way]["work"]["positions_heard"] for way in ("conversation", "alone")]
    assert heard[0] < heard[1]


def test_what_does_not_stream_is_computed_once(
    settings: Settings,
    manifest: Path,
    kept: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = tmp_path / "figures.json"
    words = (manifest, "--reference", kept, "--json", figures)
    measure(settings, *words)
    first = json.loads(figures.read_text())["texts"]
    for clip in manifest.parent.glob("*.wav"):  # were offline computed again, it would hear this
        soundfile.write(clip, silence(2.0), SAMPLE_RATE)
    capsys.readouterr()
    measure(settings, *words)
    assert "2 of them kept" in capsys.readouterr().out
    again = json.loads(figures.read_text())["texts"]
    assert {name: texts[0] for name, texts in again.items()} == {
        name: texts[0] for name, texts in first.items()
    }
    assert all(texts[1] == "" for texts in again.values())  # streaming is


def test_offline_is_the_model_as_published_whatever_streams(
    settings: Settings, manifest: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(settings, manifest, "--reference", kept, "--limit", 1)
    small = WhisperOptions(model=settings.whisper.model, dtype="int8", block_ms=320)
    capsys.readouterr()
    measure(
        Settings(whisper=small, turn=settings.turn), manifest, "--reference", kept, "--limit", 1
    )
    assert "1 of them kept" in capsys.readouterr().out


def test_a_tail_that_is_taken_back_counts_and_one_that_is_committed_does_not() -> None:
    told = Told()
    told.show(" the red")
    told.commit(" the", 1600)
    told.show(" red cat")
    assert told.erased == 0
    told.show(" dead cat")
    assert told.erased == 2
    told.commit(" dead", 3200)
    told.commit("ly", 3200)
    told.show("")
    assert told.erased == 4  # "dead" became another word
    assert [word.text for word in told.words] == [" the", " deadly"]
    assert told.words[1].at_s == pytest.approx(0.2)


def test_words_that_a_revision_takes_back_are_counted_without_case_and_marks() -> None:
    assert n_revised(" And I could have. Tea", " I'd like to have tea, please") == 3


def test_a_clear_difference_stands_out_of_chance_and_none_does_not() -> None:
    worse = [(Errors(words=10), Errors(substitutions=1, words=10))] * 50
    assert points_interval(worse) == pytest.approx((10.0, 10.0))
    mixed = [
        (Errors(words=10), Errors(deletions=1, words=10)),
        (Errors(insertions=1, words=10), Errors(words=10)),
    ] * 25
    low, high = points_interval(mixed)
    assert low < 0 < high


def test_clips_that_lose_a_fifth_are_named_and_the_worst_comes_first() -> None:
    def row(name: str, conversation: str) -> Row:
        said = "bring me the red cat please"
        item = Item(name, Path(name), said, "read", 1.0)
        return Row(item, said, conversation, said)

    rows = [row("fine", "bring me the red cat please"), row("cut", "bring me the red")]
    lines = list(worst(rows, everything=True))
    assert "['cut']" in lines[0]
    assert [line.strip().partition(":")[0] for line in lines if " -> " in line] == ["cut", "fine"]
