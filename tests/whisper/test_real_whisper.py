"""The default model on speech: equal to transformers offline, true to its invariants in blocks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from tiny_whisper import committed, features, ids_of, pieces, silence, text_of
from transformers import WhisperForConditionalGeneration

from textpro_stream import store
from textpro_stream.config import WhisperOptions
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, TokenSpan, Transcript
from textpro_stream.evaluate.score import Errors, errors, normalise_text
from textpro_stream.whisper import Recognizer, WhisperPro

pytestmark = pytest.mark.weights

CLIPS = Path(__file__).parents[1] / "data"
SHARED = Path(__file__).parents[3] / "shared" / "data"  # development speech, where it is
DEV = ["ls-367-130732-0000", "ls-367-130732-0001", "azure-weather"]
here = pytest.mark.skipif(not SHARED.exists(), reason="want development speech that is not public")

Audio = NDArray[np.float32]


def read(path: Path, limit_s: float | None = None) -> Audio:
    audio, rate = soundfile.read(path, dtype="float32")
    assert rate == SAMPLE_RATE
    found: Audio = audio[: round(limit_s * rate) if limit_s else None]
    return found


@pytest.fixture(scope="module")
def folder() -> Path:
    return store.resolve("tiny.en", "whisper")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> WhisperPro:
    return WhisperPro.load(folder, WhisperOptions(dtype="float32"), torch.device("cpu"))


@pytest.fixture(scope="module")
def theirs(folder: Path) -> WhisperForConditionalGeneration:
    return WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def stream(
    model: WhisperPro, audio: Audio, sizes: Sequence[int] = (3200,)
) -> tuple[list[TokenSpan], Recognizer]:
    """All that is committed for a clip that ends, and who did it."""
    recognizer = model.open()
    transcripts = [t for chunk in pieces(audio, sizes) for t in recognizer.push(chunk)]
    return committed([*transcripts, *recognizer.finish()]), recognizer


def told(spans: Sequence[TokenSpan]) -> list[tuple[object, ...]]:
    """Spans, comparable."""
    return [(s.ids, s.start, s.end, s.logprob, s.states.flatten().tolist()) for s in spans]


# ------------------------------------------------------------------------------------- offline


def check_offline(model: WhisperPro, theirs: WhisperForConditionalGeneration, audio: Audio) -> None:
    recognizer = model.offline()
    recognizer.push(AudioChunk(audio, 0))
    found = ids_of(committed(recognizer.finish()))
    ids = theirs.generate(features(audio), do_sample=False)[0].tolist()
    assert found == [token for token in ids if token < theirs.config.eos_token_id]


@pytest.mark.parametrize("clip", sorted(path.stem for path in CLIPS.glob("*.flac")))
def test_offline_is_transformers_greedy(
    tiny: WhisperPro, theirs: WhisperForConditionalGeneration, clip: str
) -> None:
    check_offline(tiny, theirs, read(CLIPS / f"{clip}.flac"))


@here
@pytest.mark.parametrize("clip", DEV)
def test_offline_is_transformers_greedy_on_human_speech(
    tiny: WhisperPro, theirs: WhisperForConditionalGeneration, clip: str
) -> None:
    check_offline(tiny, theirs, read(SHARED / "dev" / "audio" / f"{clip}.flac"))


# ------------------------------------------------------------------------------------ streaming


def test_clips_are_understood_in_blocks(tiny: WhisperPro) -> None:
    total = Errors()
    for item in map(json.loads, (CLIPS / "manifest.jsonl").read_text().splitlines()):
        found = errors(item["text"], text_of(stream(tiny, read(CLIPS / item["audio"]))[0]))
        assert found.deletions <= found.words / 3
        total += found
    assert total.wer <= 8


@pytest.fixture(scope="module")
def question() -> Audio:
    return read(CLIPS / "long_question.flac")


@pytest.mark.parametrize("sizes", [[1, 16_000, 77], [160_000]])
def test_cutting_differently_changes_nothing(
    tiny: WhisperPro, question: Audio, sizes: list[int]
) -> None:
    spans, _ = stream(tiny, question, sizes)
    assert len(spans) > 15
    assert told(spans) == told(stream(tiny, question)[0])


def test_previews_leave_no_trace_and_commits_stay(tiny: WhisperPro, question: Audio) -> None:
    recognizer, transcripts, then = tiny.open(), list[Transcript](), list[tuple[object, ...]]()
    for i, chunk in enumerate(pieces(question)):
        if i % 7 == 3:
            recognizer.preview()
        new = recognizer.push(chunk)
        transcripts += new
        then += told(committed(new))
    assert told(committed(transcripts)) == then
    transcripts += recognizer.finish()
    assert told(committed(transcripts)) == told(stream(tiny, question)[0])


@pytest.mark.parametrize("loud", [0.0, 1e-3, 0.02, 0.2])
def test_silence_and_hiss_say_nothing(tiny: WhisperPro, loud: float) -> None:
    noise = np.random.default_rng(0).standard_normal(10 * SAMPLE_RATE).astype(np.float32)
    assert text_of(stream(tiny, loud * noise)[0]) == ""


@here
@pytest.mark.parametrize(
    "clip", sorted(path.stem for path in (SHARED / "noise" / "audio").glob("*.flac"))
)
def test_noise_says_nothing(tiny: WhisperPro, clip: str) -> None:
    assert text_of(stream(tiny, read(SHARED / "noise" / "audio" / f"{clip}.flac"))[0]) == ""


def test_a_minute_of_silence_is_bounded_work(tiny: WhisperPro) -> None:
    spans, recognizer = stream(tiny, silence(60))
    work = recognizer.work
    assert spans == []
    assert work.decoder_passes < 2 * 60 / 0.48
    assert work.positions_final + work.positions_provisional <= 3 * work.positions_heard


# ---------------------------------------------------------------------------- longer than a window


@here
class TestLongSpeech:
    LIMIT_S = 90

    @pytest.fixture(scope="class")
    @staticmethod
    def item() -> dict[str, object]:
        lines = (SHARED / "dev" / "manifest.jsonl").read_text().splitlines()
        (item,) = (item for item in map(json.loads, lines) if item["id"].startswith("long-4088"))
        parts = [part for part in item["segments"] if part["end"] <= TestLongSpeech.LIMIT_S]
        text = " ".join(part["text"] for part in parts)
        return {"audio": item["audio"], "text": text, "end": parts[-1]["end"]}

    @pytest.fixture(scope="class")
    @staticmethod
    def heard(tiny: WhisperPro, item: dict[str, object]) -> tuple[list[TokenSpan], Recognizer, int]:
        end = item["end"]
        assert isinstance(end, float)
        audio = read(SHARED / "dev" / str(item["audio"]), end)
        spans, recognizer = stream(tiny, audio)
        return spans, recognizer, len(audio)

    def test_segments_roll_and_words_are_right(
        self,
        item: dict[str, object],
        heard: tuple[list[TokenSpan], Recognizer, int],
    ) -> None:
        spans, recognizer, _ = heard
        assert recognizer.work.segments >= 3
        assert errors(str(item["text"]), text_of(spans)).wer < 15

    def test_seams_repeat_no_words(
        self,
        item: dict[str, object],
        heard: tuple[list[TokenSpan], Recognizer, int],
    ) -> None:
        def repeats(text: str) -> int:
            """Runs of up to four words that are said twice on end."""
            words = normalise_text(text).split()
            return sum(
                words[i : i + n] == words[i + n : i + 2 * n]
                for n in (1, 2, 3, 4)
                for i in range(len(words) - 2 * n + 1)
            )

        assert repeats(text_of(heard[0])) <= repeats(str(item["text"])) + 1

    def test_times_go_forward_and_stay_within_the_audio(
        self, heard: tuple[list[TokenSpan], Recognizer, int]
    ) -> None:
        end = 0
        for span in heard[0]:
            assert end <= span.start <= span.end <= heard[2]
            end = span.end

    def test_work_is_bounded(self, heard: tuple[list[TokenSpan], Recognizer, int]) -> None:
        work = heard[1].work
        assert work.positions_final <= 1.5 * work.positions_heard
        assert work.positions_provisional <= work.positions_heard
        assert work.decoder_passes <= 3 * work.tokens_committed
