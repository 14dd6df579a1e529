"""Does the answer hear the tone: asked as the product asks, counted honestly, told in one piece."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from caller import ANGRY, Caller, typed
from tiny_llm import write_model
from tiny_whisper import listening_model, melody, save

from textpro_stream import store
from textpro_stream.cli.main import main
from textpro_stream.config import LlmOptions, WhisperOptions
from textpro_stream.contracts import SAMPLE_RATE, ToneReading
from textpro_stream.evaluate.said import PLAIN
from textpro_stream.evaluate.tone import shuffled
from textpro_stream.evaluate.tone_answers import LONGEST, Answer, Answers, Beside
from textpro_stream.evaluate.tone_figures import Answered, figures
from textpro_stream.llm import LanguageModel
from textpro_stream.prosody.tone import ToneWeights
from textpro_stream.whisper import WhisperPro

CPU = torch.device("cpu")
OPTIONS = LlmOptions(dtype="float32", repetition_penalty=1.0, max_tokens=24)
QUESTION = "How long should I boil an egg?"
LABELS = ("anger", "neutral", "sadness")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("llm")
    write_model(folder, "Llama")
    return LanguageModel.load(folder, OPTIONS, CPU)


def test_it_asks_as_a_conversation_does(model: LanguageModel) -> None:
    answers = Answers(model, ["angry"])
    for tone in (None, ANGRY):
        caller = Caller(model, tone=tone)
        caller.hear([typed(QUESTION)])
        caller.draft()
        assert answers.prompt(QUESTION, tone) == list(caller.rows)


def test_replies_are_compared_as_the_model_gives_them(model: LanguageModel) -> None:
    plain, told = Answers(model, ["angry", "sad"]).to(QUESTION, [None, ANGRY])
    assert plain.reply.same
    assert plain.said.same
    assert plain.reply.divergence == 0
    assert (plain.tag, told.tag) == ("", " (I sound angry.)")

    prompts = [Answers(model, []).prompt(QUESTION, tone) for tone in (None, ANGRY)]
    drawn: list[int] = []
    while len(drawn) < LONGEST and not (drawn and drawn[-1] in model.chat.stop_ids()):
        drawn.append(int(_logits(model, [*prompts[0], *drawn])[-1].argmax()))
    shares = [
        _logits(model, [*prompt, *drawn])[len(prompt) - 1 : -1].double().log_softmax(-1)
        for prompt in prompts
    ]
    divergence = (shares[0].exp() * (shares[0] - shares[1])).sum()
    assert told.reply.tokens == len(drawn)
    assert told.reply.divergence == pytest.approx(float(divergence), rel=1e-2)
    assert told.reply.equal == int((shares[0].argmax(1) == shares[1].argmax(1)).sum())


def _logits(model: LanguageModel, rows: list[int]) -> torch.Tensor:
    backbone = model.backbone
    return backbone.model.vocabulary(backbone.model(model.rows(rows)[None])[0])


def answer(sounds: str = "calm", tag: str = "", divergence: float = 0.0, equal: int = 10) -> Answer:
    reply = Beside(10, divergence, equal)
    return Answer(tag, sounds, True, Beside(10, 0.0, 10), reply)


def test_figures_count_what_they_name() -> None:
    angry, calm = answer("angry", " (I sound angry.)", 0.5, 8), answer()
    clips = [
        Answered("anger", "a", (angry, calm, calm)),
        Answered("anger", "b", (calm, angry, calm)),
        Answered("neutral", "a", (calm, angry, calm)),
        Answered(PLAIN, "c", (calm, calm, calm)),
    ]
    found = {f.name: [(one.value, one.n) for one in f.columns] for f in figures(clips)}
    assert found["how do I sound? as was told"] == [(1, 3), (1, 3), (None, 3)]
    assert found["how do I sound? right of 2 labels"] == [(2 / 3, 3), (1 / 3, 3), (1 / 3, 3)]
    assert found["likewise, where the true tone is told"] == [(1, 1), (0, 1), (0, 1)]
    assert found["a tone is told, of neutral clips"] == [(0, 2), (0.5, 2), (0, 2)]
    assert found["reply to neutral clips: divergence a token"] == [(0, 2), (0.025, 2), (0, 2)]
    assert found["reply to all other clips: divergence a token"][0] == (0.025, 2)
    assert found["reply to all other clips: first choices equal"][0] == (0.9, 2)
    assert found["reply to all other clips: the same"][0] == (0.5, 2)


def test_what_no_clip_is_there_for_is_left_out() -> None:
    found = figures([Answered(PLAIN, "a", (answer(),) * 3)])
    assert {f.name for f in found if "how do I sound" in f.name} == set()
    assert any("neutral clips" in f.name for f in found)


@pytest.mark.parametrize("n", [2, 3, 17])
def test_each_clip_gets_another_ones_tone(n: int) -> None:
    tones = [ToneReading(i / n, None, None, None, None, {}) for i in range(n)]
    given = shuffled(tones)
    assert sorted(t.arousal for t in given) == [t.arousal for t in tones]
    assert all(own != other for own, other in zip(tones, given, strict=True))


class Page(HTMLParser):
    """Titles, and whatever would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.outside = "", list[str]()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [str(value) for name, value in attrs if name in ("src", "href")]


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Small models, and a readout for them."""
    folder = tmp_path_factory.mktemp("models")
    asr, llm = save(listening_model(), folder / "asr"), folder / "llm"
    llm.mkdir()
    write_model(llm, "Llama")
    whisper = WhisperPro.load(asr, WhisperOptions(dtype="float32"), CPU)
    d, rng = whisper.d_prosody, np.random.default_rng(3)
    weights = ToneWeights(
        LABELS,
        emotion=(9 * rng.standard_normal((len(LABELS) + 1, d))).astype(np.float32),
        emotion_bias=np.zeros(len(LABELS) + 1, np.float32),
        arousal=np.zeros(d, np.float32),
        arousal_bias=np.zeros(1, np.float32),
        arousal_trust=np.ones(1, np.float32),
        recogniser=whisper.fingerprint,
    )
    weights.save(folder / "tone.safetensors")
    readout = f"prosody.readout={folder / 'tone.safetensors'}"
    models = ["--asr", str(asr), "--llm", str(llm), "--vad", "webrtc"]
    return [*models, "--dtype", "float32", "--set", readout]


def manifest(folder: Path) -> Path:
    lines = []
    for i in range(8):
        soundfile.write(folder / f"{i}.wav", melody(3.0, i), SAMPLE_RATE)
        line = {"id": f"c{i}", "audio": f"{i}.wav", "speaker": f"s{i}", "source": "Ours (here)"}
        line |= {"split": "dev"} if i < 4 else {}
        lines.append(json.dumps(line | ({"emotion": LABELS[i % 3]} if i != 7 else {})))
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_one_command_makes_table_line_and_page(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "tone.html"
    asked = ["eval", "tone", str(manifest(tmp_path)), "--plain", "1", "--report", str(page)]
    assert main([*asked, *flags]) == 0
    told = capsys.readouterr().out
    for part in ("\nOurs, dev\n", "\nOurs\n", "\nplain speech\n"):
        assert part in told
    line = json.loads(told.splitlines()[-1])
    assert set(line["parts"]) == {"Ours, dev", "Ours", "plain speech"}
    dev = line["parts"]["Ours, dev"]
    assert dev["how do I sound? right of 3 labels"]["true tone"]["n"] == 4
    assert dev["reply to neutral clips: divergence a token"]["words only"]["value"] == 0
    shown = Page()
    shown.feed(page.read_text())
    assert shown.outside == []
    assert "another clip's" in shown.text
    assert "Ours, dev" in shown.text


def test_what_cannot_be_measured_is_told_in_one_line(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(tmp_path)
    assert main(["eval", "tone", str(path), *flags, "--llm", "http://127.0.0.1:1/v1"]) != 0
    assert "give an LLM in this process" in capsys.readouterr().err
    path.write_text(path.read_text().replace('"s1"', '""').replace("3.wav", "nowhere.wav"))
    assert main(["eval", "tone", str(path), *flags]) != 0
    told = capsys.readouterr().err
    assert "line 2: no speaker" in told
    assert "line 4: no file nowhere.wav" in told


@pytest.mark.weights
def test_the_default_model_knows_what_is_said_of_a_voice() -> None:
    folder = store.resolve("smollm2-135m", "llm")
    model = LanguageModel.load(folder, LlmOptions(), CPU)
    words = ["angry", "sad", "happy", "calm"]
    tones = [
        ToneReading(None, None, None, None, None, {label: 1.0})
        for label in ("anger", "sadness", "happiness")
    ]
    with torch.inference_mode():
        answers = Answers(model, words).to("I have waited since nine.", [*tones, None], ["Go on."])
    assert [a.sounds for a in answers[:3]] == ["angry", "sad", "happy"]
    assert all(a.knows for a in answers)
    assert answers[3].reply.same
