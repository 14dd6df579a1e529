"""The tone readout: trained on what it can learn, honest about what it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_whisper import listening_model, melody, save

from textpro_stream.cli.main import main
from textpro_stream.contracts import SAMPLE_RATE, UNSURE, ToneReading
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.prosody import calibration_error, figures, table
from textpro_stream.evaluate.said import N_ACOUSTICS, PLAIN, Labelled, Said
from textpro_stream.prosody.tone import ToneHead, ToneWeights, find_tone
from textpro_stream.train.tone import train

LABELS = ("anger", "neutral", "sadness")
D = 8


def clips(
    *, told: float = 3.0, speakers: int = 4, corpus: str = "Ours", each: int = 12, seed: int = 0
) -> list[Said]:
    """Clips whose first numbers tell the label, `told` times as loudly as chance does."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(each * speakers):
        label = i % len(LABELS)
        states = rng.standard_normal((11, D)).astype(np.float32)
        states[:, label] += told
        clip = Labelled(
            f"{corpus} {i}", Path("x.wav"), f"{corpus} {i % speakers}", LABELS[label], corpus, "", i
        )
        noise = rng.standard_normal(N_ACOUSTICS).astype(np.float32)
        found.append(Said(clip, states, tuple(rng.integers(0, 50, 11).tolist()), noise))
    return found


def plain(n: int = 30, seed: int = 9) -> list[Said]:
    """Speech of many voices that has its own number, and none of the labels'."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        states = rng.standard_normal((11, D)).astype(np.float32)
        states[:, D - 1] += 3.0
        clip = Labelled(f"plain {i}", Path("x.wav"), f"reader {i}", PLAIN, "Readers", "", i)
        found.append(Said(clip, states, (1, 2), np.zeros(N_ACOUSTICS, np.float32)))
    return found


def test_it_learns_what_the_states_tell(tmp_path: Path) -> None:
    weights, report = train([[*clips(), *plain()]], 0.01, "ours")
    weights.save(tmp_path / "tone.safetensors")
    head = find_tone(str(tmp_path / "tone.safetensors"), "ours")
    assert head is not None
    found = figures("Ours", clips(seed=1), head)
    assert found.right > 0.95
    assert found.recall > 0.95
    assert found.commonest == pytest.approx(1 / 3)
    assert found.named > 0.9
    assert found.aroused_right > 0.95
    assert 0.5 < found.tagged < 0.75  # all but the neutral third
    assert found.tagged_right > 0.95
    assert "48 clips with an emotion, 4 speakers, 3 labels, 1 corpora; 30 of plain" in report
    assert "| Ours | 48 (4)" in table([found])


def test_plain_speech_is_told_as_unsure() -> None:
    head = ToneHead(train([[*clips(), *plain()]], 0.01, "ours")[0])
    for one in plain(seed=4):
        told = ToneReading(None, None, None, None, None, head.emotion(one.mean()))
        assert told.guess == UNSURE


def test_arousal_is_lowered_to_what_is_right_elsewhere() -> None:
    """On its own corpus it is nearly always right; elsewhere 0.8, and so it says."""
    head = ToneHead(train([[*clips(), *plain()]], 0.01, "ours", aroused_across=0.8)[0])
    told = [head.arousal(one.mean()) for one in clips(seed=1)]
    sure = [abs(value - 0.5) for value in told if value is not None]
    assert np.mean(sure) == pytest.approx(0.3, abs=0.05)


def test_several_corpora_tell_what_it_is_worth_elsewhere() -> None:
    """The second corpus has the labels' numbers in other places: no guess is worth much there."""
    other = clips(corpus="Theirs", seed=2)
    turned = [
        Said(one.clip, np.roll(one.states, 1, axis=1), one.ids, one.acoustics) for one in other
    ]
    _, report = train([[*clips(), *turned, *plain()]], 0.01, "ours")
    (row,) = [line for line in report.splitlines() if "corpus not heard" in line]
    assert float(row.split("|")[2].strip(" %")) < 40


def test_noise_is_told_as_noise() -> None:
    head = ToneHead(train([[*clips(told=0.0), *plain()]], 0.01, "ours")[0])
    likeliest = [max(head.emotion(one.mean()).values()) for one in clips(told=0.0, seed=1)]
    assert np.mean(likeliest) < 0.5


def test_clips_without_words_are_counted_and_not_judged() -> None:
    said = [*clips(), *plain()]
    silent = Said(said[0].clip, said[0].states[:0], (), said[0].acoustics)
    weights, report = train([[*said, silent]], 0.01, "ours")
    assert "1 without words" in report
    assert figures("Ours", [*clips(), silent], ToneHead(weights)).without_words == 1


@pytest.mark.parametrize("some", [slice(0, 48, 4), slice(0, 48, 3)])
def test_one_speaker_or_one_label_teaches_nothing(some: slice) -> None:
    with pytest.raises(ConfigError, match="two or more"):
        train([[*clips()[some], *plain()]], 0.01, "ours")


def test_without_plain_speech_everything_would_be_an_emotion() -> None:
    with pytest.raises(ConfigError, match="no plain speech"):
        train([clips()], 0.01, "ours")


def test_one_command_trains_and_another_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a small model that hears notes; a second run hears nothing again."""
    model = save(listening_model(), tmp_path / "model")
    lines = []
    for i in range(12):
        soundfile.write(tmp_path / f"{i}.wav", melody(3.0, i), SAMPLE_RATE)
        emotion = ("anger", "sadness", None)[i % 3]
        line = {"id": f"c{i}", "audio": f"{i}.wav", "speaker": f"s{i // 3}", "source": "Ours"}
        lines.append(json.dumps({**line, "speaker": f"{line['speaker']}-{i % 3 // 2}"}))
        if emotion:
            lines[-1] = json.dumps({**line, "emotion": emotion})
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(lines))
    flags = ["--asr", str(model), "--vad", "webrtc", "--set", "whisper.dtype=float32"]
    train_it = ["train", "tone", "--manifest", str(manifest), "--out", str(tmp_path / "run")]
    assert main([*train_it, *flags]) == 0
    told = capsys.readouterr().out
    assert "8 clips with an emotion, 4 speakers, 2 labels, 1 corpora; 4 of plain speech" in told
    readout = tmp_path / "run" / "tone.safetensors"
    before = ToneWeights.load(readout)
    assert main([*train_it, *flags]) == 0
    assert "turns heard" not in capsys.readouterr().out
    after = ToneWeights.load(readout)
    np.testing.assert_array_equal(after.emotion, before.emotion)
    np.testing.assert_array_equal(after.arousal, before.arousal)

    figures_of = ["eval", "prosody", str(manifest), "--plain", "4"]
    assert main([*figures_of, *flags, "--set", f"prosody.readout={readout}"]) == 0
    told = capsys.readouterr().out
    assert "| Ours | 8 (4)" in told
    assert "Plain speech: 4 clips" in told


def test_calibration_is_how_far_sureness_is_off() -> None:
    sure = np.array([[0.9, 0.1]] * 10)
    assert calibration_error(sure, np.array([0] * 9 + [1])) == pytest.approx(0.0)
    assert calibration_error(sure, np.array([0] * 4 + [1] * 6)) == pytest.approx(0.5)
