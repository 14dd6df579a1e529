"""Training the head: what separates is found, kinds do not become labels, budgets are kept to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_whisper import listening_model, melody, save, silence

from textpro_stream.cli.main import main
from textpro_stream.config import TurnOptions
from textpro_stream.contracts import Ending, OpenTurn, TokenSpan, samples_of_ms
from textpro_stream.errors import ConfigError
from textpro_stream.evaluate.evidence import Asked
from textpro_stream.evaluate.turns import Pause
from textpro_stream.train.end_of_turn import BUDGETS, train
from textpro_stream.train.regression import Examples, alike, fit
from textpro_stream.turn.head import Head

OPTIONS = TurnOptions(silence_ms=300, silence_long_ms=1500)


def asked(number: int, *, end: bool, finished: float, kind: str = "dialogue") -> Asked:
    """A pause whose recogniser is as sure of a full stop as `finished`, a probability."""
    rng = np.random.default_rng(number)
    length = None if end else 2.0 + float(np.exp(rng.normal(-0.8, 0.6)))
    pause = Pause(f"p{number}", f"s{number % 10}", kind, "", "end" if end else "hold", 2.0, length)
    stop, other = np.log(finished), np.log((1 - finished) / 8)
    ending = Ending(other, stop, other, other, other, -0.5, np.zeros((0, 4), np.float32))
    words = TokenSpan((), "so it goes.", 0, 1, -0.1, None)
    turn = OpenTurn(1, (words,), over=True, ending=ending)
    return Asked(pause, Path(f"{pause.speaker}.wav"), float(number), turn, 0.2)


def talk(n: int) -> list[Asked]:
    """Ends sound finished more often than holds do, not always."""
    rng = np.random.default_rng(1)
    return [
        asked(
            i,
            end=i % 2 == 0,
            finished=float(np.clip(0.7 * (i % 2 == 0) + rng.random() / 3, 0.05, 0.9)),
        )
        for i in range(n)
    ]


def test_what_tells_an_end_is_found_and_speaks_for_others() -> None:
    weights, report = train(Examples.of(talk(200)), OPTIONS, 10.0)
    head = Head(weights)
    sure = asked(999, end=True, finished=0.9).turn
    open_ = asked(999, end=True, finished=0.1).turn
    assert head.p_end(sure, samples_of_ms(200)) > 0.7 > 0.3 > head.p_end(open_, samples_of_ms(200))
    assert "100 ends and 100 holds of real talk, 10 speakers" in report


def test_a_budget_is_kept_to_on_speakers_like_those_it_was_measured_on() -> None:
    pauses = talk(400)
    weights, _ = train(Examples.of(pauses), OPTIONS, 10.0)
    head = Head(weights)
    assert list(weights.required) == sorted(weights.required, reverse=True)
    holds = [one for one in pauses if one.pause.label == "hold"]
    for budget in (0.1, 0.3):
        required = head.p_required(0, TurnOptions(false_cutoffs=budget))
        cut = [
            any(
                head.p_end(one.turn, samples_of_ms(ms)) >= required
                and ms < 1000 * one.pause.silence_s
                for ms in range(300, 1500, 100)
            )
            for one in holds
        ]
        assert np.mean(cut) <= budget + 0.05
    assert len(weights.budgets) == len(BUDGETS)


def test_labels_weigh_alike_in_talk_and_in_reading() -> None:
    pauses = [asked(i, end=i > 0, finished=0.5, kind="assistant") for i in range(10)]
    pauses += [asked(i, end=i % 2 == 0, finished=0.5) for i in range(4)]
    pauses += [asked(i, end=i % 3 == 0, finished=0.5, kind="read") for i in range(6)]
    examples = Examples.of(pauses)
    weights = alike(examples)
    read = examples.kinds == "read"
    sums = [
        weights[those & (examples.ends == end)].sum() for those in (read, ~read) for end in (0, 1)
    ]
    assert np.ptp(sums) == pytest.approx(0.0)
    holds = ~read & (examples.ends == 0)
    assert np.ptp(weights[holds]) == pytest.approx(0.0)  # the one in an order is not worth more


def test_the_fit_is_where_the_loss_is_flat() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(500, 2))
    ends = (rng.random(500) < 1 / (1 + np.exp(-(2 * numbers[:, 0] - 1)))).astype(float)
    found = fit(numbers, ends, np.ones(500), 1e-6)
    assert found == pytest.approx([2.0, 0.0, -1.0], abs=0.35)
    p_end = 1 / (1 + np.exp(-(numbers @ found[:2] + found[2])))
    assert np.abs(numbers.T @ (p_end - ends)).max() < 1e-3


def test_what_nothing_can_be_learnt_from_is_refused() -> None:
    with pytest.raises(ConfigError, match="no holds of real talk"):
        train(Examples.of([asked(i, end=True, finished=0.5) for i in range(9)]), OPTIONS, 1.0)
    one = [asked(10 * i, end=i % 2 == 0, finished=0.5) for i in range(9)]
    with pytest.raises(ConfigError, match="one speaker"):
        train(Examples.of(one), OPTIONS, 1.0)


# ------------------------------------------------------------------------------- the whole command


def spoken(folder: Path) -> Path:
    """Turns of four speakers, a pause in each, by a detector that takes tones for voices."""
    lines = []
    gap = silence(0.7)
    for i in range(8):
        audio = np.concatenate([silence(0.3), melody(1.2, i), gap, melody(1.2, i + 1), gap])
        soundfile.write(folder / f"{i}.wav", audio, 16_000)
        for k, (start, end) in enumerate(((1.5, 2.2), (3.4, None))):
            entry = {
                "id": f"{i}#{k}",
                "audio": f"{i}.wav",
                "speaker": f"s{i % 4}",
                "kind": "dialogue",
                "turn_start_s": 0.3,
                "pause_start_s": start,
                "pause_end_s": end,
                "label": "end" if end is None else "hold",
                "split": "train",
            }
            lines.append(json.dumps(entry) + "\n")
    path = folder / "pauses.jsonl"
    path.write_text("".join(lines))
    return path


def test_from_a_manifest_to_a_head_that_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asr = save(listening_model(), tmp_path / "asr")
    path, out = spoken(tmp_path), tmp_path / "run"
    hearing = ["--asr", str(asr), "--vad", "webrtc", "--device", "cpu", "--threads", "1"]
    train_it = ["train", "end-of-turn", *hearing, "--manifest", str(path), "--out", str(out)]
    assert main([*train_it, "--synthetic", "0"]) == 0
    told = capsys.readouterr().out
    assert "8 ends and 8 holds of real talk, 4 speakers" in told
    assert "| encoder states alone |" in told
    assert (out / "report.md").read_text() in told
    measure = ["eval", "endpoint", *hearing, str(path), "--cache", str(out / "real.npz")]
    page = tmp_path / "curve.html"
    head = str(out / "end_of_turn.safetensors")
    assert main([*measure, "--head", head, "--html", str(page)]) == 0
    told = capsys.readouterr().out
    assert "turns heard" not in told  # they were, in training
    assert f"| head, {100 * TurnOptions().false_cutoffs:g} % budget |" in told
    assert "Is it over?" in page.read_text()
    (tmp_path / "bad.jsonl").write_text("{}\n")
    assert main(["eval", "endpoint", *hearing, str(tmp_path / "bad.jsonl")]) == 2
    assert "bad.jsonl: line 1: no id" in capsys.readouterr().err
