"""Questions typed and spoken: the command with tiny models, its arithmetic, and with real ones."""

from __future__ import annotations

import argparse
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_llm import write_model
from tiny_whisper import listening_model, melody, save, silence

from textpro_stream.config import DeviceOptions, LlmOptions, Settings, TurnOptions, WhisperOptions
from textpro_stream.contracts import SAMPLE_RATE
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate import gap
from textpro_stream.evaluate.answers import Answer, Judge
from textpro_stream.evaluate.gap_figures import COLUMNS, Asked, Gap, draw, figures, lines
from textpro_stream.evaluate.overheard import PromptEngine, overhear
from textpro_stream.evaluate.questions import OURS, RECORDED, Question, read_questions
from textpro_stream.llm.local import LocalEngine
from textpro_stream.pipeline import Engine


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    whisper = save(listening_model(), tmp_path_factory.mktemp("listening"))
    llm = tmp_path_factory.mktemp("llm")
    write_model(llm, "Llama")
    return Settings(
        whisper=WhisperOptions(model=str(whisper)),
        turn=TurnOptions(vad="webrtc", threshold=0.5),
        llm=LlmOptions(model=str(llm), dtype="float32"),
        device=DeviceOptions(name="cpu", threads=1),
    )


def sound(seed: int) -> np.ndarray:
    return np.concatenate([silence(0.5), melody(3.0, seed), silence(2.0)])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    entries = []
    for i, name in enumerate(("one", "two")):
        soundfile.write(tmp_path / f"{name}.wav", sound(i + 4), SAMPLE_RATE)
        question = {"id": name, "question": "What is the moon?", "options": ["rock", "cheese"]}
        entries.append(question | {"answer": "AB"[i], "audio": f"{name}.wav"})
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    return path


def measure(settings: Settings, *words: object) -> int:
    parser = argparse.ArgumentParser()
    gap.add_arguments(parser)
    return gap.run(parser.parse_args([str(word) for word in words]), settings)


def test_from_questions_to_a_table_a_line_and_a_page(
    settings: Settings, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, page = tmp_path / "gap.json", tmp_path / "gap.html"
    assert measure(settings, manifest, "--tokens", 4, "--json", told, "--report", page) == 0
    out = capsys.readouterr().out
    for column in COLUMNS:
        assert f"| {column} |" in out
    assert "gap: text - streamed" in out
    (line,) = told.read_text().splitlines()
    found = json.loads(line)
    assert "synthetic" not in found
    assert found["recorded"]["questions"] == 2
    assert found["recorded"]["wer"] > 50  # a melody is no question
    assert found["recorded"]["kl"]["streamed"][0] > 0
    HTMLParser().feed(page.read_text())
    assert page.read_text().count("<svg") == 2


async def test_the_prompt_is_what_a_conversation_really_reads(settings: Settings) -> None:
    async with await Engine.load(settings, speech=False) as engine:
        assert isinstance(engine.llm, LocalEngine)
        engine.llm = PromptEngine(engine.llm.model, engine.llm.device)
        judge = Judge(engine.llm.model, 4)
        heard = await overhear(engine, sound(4))
        assert heard.turns == 1
        assert heard.text
        assert heard.prompt == judge.prompt(heard.text)
        # A turn that was ended early stands before the rest as a turn of its own.
        twice = await overhear(engine, np.concatenate([sound(4), silence(3.0), sound(5)]))
        assert twice.turns == 2
        told = engine.llm.model.chat.decode([row for row in twice.prompt if isinstance(row, int)])
        assert told.count("<|im_start|>user") == 2
        nothing = await overhear(engine, silence(2.0))
        assert (nothing.text, nothing.prompt, nothing.turns) == ("", (), 0)


def test_what_cannot_be_asked_is_one_line(settings: Settings, manifest: Path) -> None:
    remote = Settings(llm=LlmOptions(url="http://127.0.0.1:1/v1"))
    with pytest.raises(ConfigError, match="leave --llm out"):
        measure(remote, manifest)
    with pytest.raises(ConfigError, match="name a voice"):
        measure(settings, OURS, "--voices", "")
    with pytest.raises(ConfigError, match="at least one"):
        measure(settings, manifest, "--tokens", 0)


def asked(name: str, voice: str, right: dict[str, bool], heard: str = "what is it") -> Asked:
    question = Question(name, "what is it", ("this", "that"), 0)
    answers = {
        column: Answer((0.0, -1.0) if right.get(column) else (-1.0, 0.0), 0.5, 0.25, False)
        for column in COLUMNS
    }
    return Asked(question, voice, answers, heard, "what is it", 2 if voice == "cut" else 1)


def test_the_gap_is_the_sum_of_its_parts() -> None:
    all_right = dict.fromkeys(COLUMNS, True)
    found = Gap(
        "synthetic",
        [
            asked("a", "x", all_right),
            asked("a", "y", all_right | {"streamed": False, "heard as text": False}),
            asked("b", "x", all_right | {"streamed": False}),
            asked("b", "cut", all_right, heard="what was it"),
        ],
    )
    assert found.n_questions == 2
    assert found.accuracy("text").value == 100
    whole = found.lost("text", "streamed")
    words, rest = found.lost("text", "heard as text"), found.lost("heard as text", "streamed")
    assert (whole.value, words.value, rest.value) == (50, 25, 25)
    # Both voices of a question are drawn together: each question alone loses half.
    assert (whole.low, whole.high) == (50, 50)
    assert (words.low, words.high) == (0, 50)
    assert found.wer() == pytest.approx(100 / 12)
    assert found.wer(offline=True) == 0
    assert found.cut() == 25
    assert found.kl("streamed").value == 0.5
    assert found.first("streamed").value == 25


def test_the_page_names_what_changed_and_hides_no_text() -> None:
    lost = asked("a", RECORDED, {"text": True}, heard="<b>what</b>")
    found = Gap(RECORDED, [lost, asked("b", RECORDED, dict.fromkeys(COLUMNS, True))])
    page = draw([found], 8)
    assert "&lt;b&gt;what&lt;/b&gt;" in page
    assert page.count("<td>recorded</td>") == 1
    assert "+50.0 points" in "\n".join(lines(found, 8))
    assert figures(found)["points"]["gap: text - streamed"][0] == 50  # type: ignore[index]


@pytest.mark.weights
async def test_three_questions_are_answered_typed_and_spoken() -> None:
    wanted = {"easy-02", "easy-06", "easy-07"}  # the sky, fish, Paris
    questions = [question for question in read_questions(OURS) if question.id in wanted]
    settings = Settings(device=DeviceOptions(name="cpu", threads=1))
    found = Gap(
        "synthetic",
        await gap.ask_all(questions, [settings.speech.voice], settings, n_tokens=8),
    )
    assert found.accuracy("text").value == 100
    assert found.accuracy("streamed").value >= 60
    assert found.kl("text").value == pytest.approx(0, abs=1e-4)
    assert found.wer() < 40
    for one in found.asked:
        if one.turns == 1:  # words alone enter the LLM by default
            assert one.answers["streamed"] == one.answers["heard as text"]
