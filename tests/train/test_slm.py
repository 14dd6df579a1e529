"""`textpro train slm`: rows that point at words, replies that follow, and the file of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from tiny_llm import write_model
from tiny_whisper import listening_model, melody, save, tokenizer

from textpro_stream.checkpoint import Checkpoint
from textpro_stream.cli.main import main
from textpro_stream.config import LlmOptions
from textpro_stream.errors import WeightsError
from textpro_stream.evaluate.said import N_ACOUSTICS, PLAIN, Labelled, Said
from textpro_stream.llm import LanguageModel
from textpro_stream.llm.adapter import find_adapter, llm_fingerprint, save_trained
from textpro_stream.llm.fusion import FusionSpec, Tone
from textpro_stream.llm.session import LlamaBackbone
from textpro_stream.lora import lora_tensors
from textpro_stream.prosody.tone import ToneHead
from textpro_stream.train.loop import Run, Schedule
from textpro_stream.train.slm_gate import measure, prompt
from textpro_stream.train.tone import train as train_readout
from textpro_stream.train.tone_distillation import ToneDistillation, Weighing, adapted, told_as
from textpro_stream.train.utterances import Utterance, utterances
from textpro_stream.train.warm_start import Rows, WarmStart, Words, recalls
from textpro_stream.whisper.tokens import Tokens

D = 24
SPEC = FusionSpec("interleave")
TONES = ("anger", "sadness", "neutral", PLAIN)
CPU = torch.device("cpu")
OPTIONS = LlmOptions(dtype="float32", system_prompt="Answer shortly.", context=256)


def silent(line: str) -> None:
    pass


def clips(n: int = 40, *, seed: int = 0, speakers: int = 4, at: int = 0) -> list[Said]:
    """Clips whose first numbers tell the label, and whose level is the speaker's but for anger."""
    rng = np.random.default_rng(seed)
    built = tokenizer()
    words = [built.token_to_id("Ġ" + word) for word in ("there", "will", "they", "who", "have")]
    found = []
    for i in range(n):
        label = TONES[i % len(TONES)]
        states = rng.standard_normal((11, D)).astype(np.float32)
        states[:, i % len(TONES)] += 4.0
        numbers = rng.standard_normal(N_ACOUSTICS).astype(np.float32) * 0.1
        numbers[3] = -30.0 + 10 * (label == "anger")
        numbers[6] = 3.0
        speaker = f"s{at + i // len(TONES) % speakers}"
        clip = Labelled(f"{seed}-{i}", Path("x.wav"), speaker, label, "Ours", "", i)
        found.append(Said(clip, states, tuple(rng.choice(words, 11).tolist()), numbers))
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in ("llm", "other", "qwen", "asr")}
    write_model(made["llm"], "Llama")
    write_model(made["other"], "Llama", initializer_range=0.2)
    write_model(made["qwen"], "Qwen2")
    save(listening_model(), made["asr"])
    return made


@pytest.fixture(scope="module")
def llm(folders: dict[str, Path]) -> LanguageModel:
    return LanguageModel.load(folders["llm"], replace(OPTIONS, fusion="text"), CPU)


@pytest.fixture(scope="module")
def make(llm: LanguageModel, folders: dict[str, Path]) -> Callable[..., list[Utterance]]:
    tokens = Tokens(folders["asr"], tokenizer().get_vocab_size())
    return lambda said: utterances(said, tokens, llm.chat.encode, SPEC)


def model_of(llm: LanguageModel):
    assert isinstance(llm.backbone, LlamaBackbone)
    return llm.backbone.model


def warm(llm: LanguageModel, some: list[Utterance], folder: Path, steps: int = 200):
    """The first stage."""
    model = model_of(llm)
    rows = Rows(torch.cat([one.pooled for one in some]), model.dims.d_model, 0)
    words = Words(model.embedding, llm.chat.encode)
    objective = WarmStart(rows, words, some, some, lambda _: None)
    schedule = Schedule(steps, 1, 3e-3, evaluate_every=100)
    Run(objective, schedule, folder, tell=silent).train()
    return rows, words


def taught(
    llm: LanguageModel, rows: Rows, words: Words, some: list[Utterance], folder: Path, steps: int
):
    """The second stage."""
    student = adapted(model_of(llm), 4, 0)
    objective = ToneDistillation(
        llm, student, rows, words, SPEC,
        train=some, held_out=some[:8], weighing=Weighing(1.0, 0.5), save=lambda _: None,
    )  # fmt: skip
    schedule = Schedule(steps, 4, 3e-3, evaluate_every=5, checkpoint_s=0.0)
    return student, Run(objective, schedule, folder, tell=silent).train()


def test_an_utterance_has_a_row_for_each_group_and_words_that_are_true_of_it(
    make, llm: LanguageModel
) -> None:
    said = clips()
    angry, sad, neutral, plain = make(said)[:4]
    assert angry.text.startswith(("there", "will", "they", "who", "have"))
    assert (
        sum(isinstance(row, Tone) for row in angry.asked("", llm.chat.encode, SPEC))
        == len(angry.pooled)
        >= 2
    )
    assert angry.words == {"emotion": "angry", "loudness": "loud"}
    assert (sad.words["emotion"], told_as(sad)) == ("sad", " (I sound sad.)")
    for one in (neutral, plain):  # nothing is to be told of either
        assert (one.is_neutral, told_as(one), one.words["emotion"]) == (True, "", "calm")


def test_what_is_typed_behind_a_question_has_no_row_of_its_own(make, llm: LanguageModel) -> None:
    one = make(clips(4))[0]
    asked = one.asked(" How do I sound, and what did I just say there?", llm.chat.encode, SPEC)
    text = llm.chat.decode([row for row in asked if not isinstance(row, Tone)])
    assert text == one.text + " How do I sound, and what did I just say there?"
    own = [row for row in one.asked("", llm.chat.encode, SPEC) if isinstance(row, Tone)]
    tones = [row for row in asked if isinstance(row, Tone)]
    assert len(own) <= len(tones) <= len(own) + 1  # the group in which both stand, and the next


def test_the_warm_start_learns_rows_that_point_at_words(
    llm: LanguageModel, make, tmp_path: Path
) -> None:
    some, others = make(clips()), make(clips(seed=1))
    rows, words = warm(llm, some, tmp_path)
    found = recalls(rows, words, others)
    assert found["emotion"] > 0.9
    untrained = Rows(torch.cat([one.pooled for one in some]), 32, 0)
    assert recalls(untrained, words, others)["emotion"] < 0.7
    norms = torch.cat([rows(one.pooled) for one in others]).norm(dim=1)
    assert float(norms.detach().mean()) == pytest.approx(words.norm, rel=0.3)
    one = some[0].pooled
    torch.testing.assert_close(rows.folded()(one), rows(one), atol=1e-4, rtol=1e-4)


def test_replies_come_nearer_to_those_that_are_wanted(
    llm: LanguageModel, make, tmp_path: Path
) -> None:
    some = make(clips())
    rows, words = warm(llm, some, tmp_path / "rows")
    _, lines = taught(llm, rows, words, some, tmp_path / "replies", 60)
    assert lines[-1]["neutral_kl"] < 0.9 * lines[0]["neutral_kl"]
    assert lines[-1]["told_kl"] < lines[0]["told_kl"]


def test_the_second_stage_goes_on_to_the_same_losses(
    llm: LanguageModel, make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = make(clips())

    def train(folder: str, killed_at: int = 0):
        rows, words = warm(llm, some, tmp_path / folder / "rows", 20)
        losses, count = ToneDistillation.losses, 0

        def killed(self, example):
            nonlocal count
            count += 1
            if count == killed_at:
                raise KeyboardInterrupt
            return losses(self, example)

        with monkeypatch.context() as patched:
            patched.setattr(ToneDistillation, "losses", killed)
            student, lines = taught(llm, rows, words, some, tmp_path / folder / "replies", 6)
        return lines, lora_tensors(student), rows.folded().up.weight

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("killed", killed_at=14)
    lines, tensors, weight = train("killed")
    assert lines == whole[0]
    assert all(torch.equal(tensor, whole[1][name]) for name, tensor in tensors.items())
    assert torch.equal(weight, whole[2])


def written(llm: LanguageModel, folders: dict[str, Path], path: Path, recogniser: str = "") -> Path:
    """A file of a projector and adapters that change much."""
    rows = Rows(torch.randn(50, D, generator=torch.Generator().manual_seed(1)), 32, 3)
    student = adapted(model_of(llm), 2, 0)
    for name, parameter in student.named_parameters():
        if name.endswith("lora_b"):
            parameter.data.normal_(generator=torch.Generator().manual_seed(5))
    save_trained(
        path,
        rows.folded(),
        lora_tensors(student),
        settings={"fusion": "interleave", "group": "5"},
        llm=llm_fingerprint(Checkpoint(folders["llm"])),
        recogniser=recogniser,
        vector="made up",
    )
    return path


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_file_brings_rows_and_what_the_llm_learnt(
    llm: LanguageModel, make, folders: dict[str, Path], tmp_path: Path, dtype: str
) -> None:
    path = written(llm, folders, tmp_path / "projector.safetensors")
    options = replace(OPTIONS, projector=str(path), dtype=dtype)
    trained = LanguageModel.load(folders["llm"], options, CPU, d_prosody=D)
    assert (trained.fusion.kind, trained.fusion.group) == ("interleave", 5)
    adapter = find_adapter(Checkpoint(path))
    assert adapter is not None
    assert len(adapter.tensors) == 8  # two layers, two products, two matrices

    plain = LanguageModel.load(folders["llm"], replace(OPTIONS, fusion="text", dtype=dtype), CPU)
    words = plain.rows(plain.chat.encode("How long?")[0])[None]
    with torch.no_grad():
        before, after = model_of(plain)(words), model_of(trained)(words)
        untouched = LanguageModel.load(folders["llm"], replace(options, fusion="text"), CPU)
        assert torch.equal(model_of(untouched)(words), before)  # words alone: the LLM as it is
        student = adapted(model_of(llm), 2, 0)
        for name, parameter in student.named_parameters():
            if name.endswith(("lora_a", "lora_b")):
                parameter.copy_(adapter.tensors[name].float())
        expected = student(words)
    assert float((after - before).norm() / before.norm()) > 0.3
    assert float((after - expected).norm() / expected.norm()) < (
        1e-5 if dtype == "float32" else 0.1
    )
    rows = trained.rows(prompt(trained, make(clips(4))[0]))
    assert torch.isfinite(rows).all()


def test_another_models_file_is_refused_in_one_line(
    llm: LanguageModel, folders: dict[str, Path], tmp_path: Path
) -> None:
    path = written(llm, folders, tmp_path / "projector.safetensors", recogniser="ours")
    options = replace(OPTIONS, projector=str(path))
    for folder, more, told in (
        ("other", {}, "made for another LLM than .*; give llm.model the one"),
        ("llm", {"recogniser": "theirs"}, "another recogniser's vectors .* train it again"),
        ("llm", {"d_prosody": 7}, "takes states of width 24, Whisper's are 7 wide"),
    ):
        with pytest.raises(WeightsError, match=told) as caught:
            LanguageModel.load(folders[folder], options, CPU, **more)
        assert "\n" not in str(caught.value)
    LanguageModel.load(folders["llm"], options, CPU, d_prosody=D, recogniser="ours")


def test_the_gate_tells_a_harmless_projector_from_one_that_moves_replies(
    llm: LanguageModel, make, folders: dict[str, Path], tmp_path: Path
) -> None:
    said = clips()
    head = ToneHead(train_readout([said], 0.01, "ours")[0])
    held_out = make(clips(8, seed=2))
    loud = written(llm, folders, tmp_path / "projector.safetensors")
    options = replace(OPTIONS, projector=str(loud))
    gate = measure(llm, LanguageModel.load(folders["llm"], options, CPU), head, held_out)
    assert not gate.passed
    assert gate.kl[-1].value is not None
    assert gate.kl[-1].value > 0.05
    assert (gate.kl[0].value, gate.equal[0].value) == (0.0, 1.0)
    assert gate.right[0].n == 6  # of 8, two are of speech of which nobody named an emotion
    assert "NOT passed" in str(gate)
    assert "nats a token | 4 |" in str(gate)  # those two, and two that are labelled so
    # The same weights without rows and adapters: nothing moves
    same = measure(llm, llm, head, held_out)
    assert same.passed
    assert not same.beats_tags


def manifest(folder: Path) -> Path:
    lines = []
    for i in range(24):
        soundfile.write(folder / f"{i}.wav", melody(2.5, i), 16_000)
        entry = {"id": f"c{i}", "audio": f"{i}.wav", "speaker": f"s{i // 6}"}
        emotion = ("anger", "sadness", "neutral")[i % 3]
        told = {"emotion": emotion} if i % 6 < 4 else {"speaker": f"p{i % 5}"}
        lines.append(json.dumps(entry | told))
    path = folder / "speech.jsonl"
    path.write_text("\n".join(lines))
    return path


def command(folders: dict[str, Path], path: Path, *more: str, llm: str = "llm") -> list[str]:
    flags = ["train", "slm", "--asr", str(folders["asr"]), "--llm", str(folders[llm])]
    flags += ["--vad", "webrtc", "--threads", "1", "--manifest", str(path)]
    flags += ["--out", str(path.parent / "run"), "--held-out", "s1", "--warm-steps", "4"]
    return [*flags, "--steps", "2", "--accumulate", "2", "--rank", "2", *more]


@pytest.mark.parametrize("llm", ["llm", "qwen"])
def test_one_command_from_a_manifest_to_a_projector(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], llm: str
) -> None:
    path = manifest(tmp_path)
    assert main(command(folders, path, llm=llm)) == 0
    told = capsys.readouterr().out
    assert "Gate (<= 0.05 nats a token and >= 95 % equal first choices" in told
    assert (tmp_path / "run/report.md").read_text() in told
    made = tmp_path / "run/projector.safetensors"
    file = Checkpoint(made)
    assert file.metadata["fusion"] == "interleave"
    assert "layers=(1,)" in file.metadata["vector"]
    assert find_adapter(file) is not None
    before = load_file(made)
    assert main(command(folders, path, llm=llm)) == 0  # nothing is left to do
    told = capsys.readouterr().out
    assert "rows: going on at step 4 of 4" in told
    assert "replies: going on at step 2 of 2" in told
    after = load_file(made)
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())

    assert main(command(folders, path, "--steps", "0", llm=llm)) == 0
    assert find_adapter(Checkpoint(made)) is None


def test_what_cannot_be_trained_on_says_what_to_give(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(tmp_path)
    assert main(command(folders, path, "--held-out", "p0")) == 2
    assert "fewer than two emotions held out" in capsys.readouterr().err
    assert main(command(folders, path, "--llm", "http://localhost:1/v1")) == 2
    assert "needs an LLM in this process" in capsys.readouterr().err
    path.write_text(path.read_text().replace("sadness", "melancholy"))
    assert main(command(folders, path)) == 2
    assert "line 2: emotion 'melancholy' is none of anger" in capsys.readouterr().err
