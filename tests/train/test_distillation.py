"""Encoder distillation: the student hears what streaming hears, and learns to hear the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_whisper import melody, random_model, save

from textpro_stream.config import WhisperOptions
from textpro_stream.train.augment import Augmentation
from textpro_stream.train.data import Clip
from textpro_stream.train.distillation import Distillation, EncoderDistillation, block_rows
from textpro_stream.train.loop import Run, Schedule
from textpro_stream.train.teacher import AFTER, Spoken
from textpro_stream.whisper import WhisperPro
from textpro_stream.whisper.blocks import Grid
from textpro_stream.whisper.cache import EncoderAppend
from textpro_stream.whisper.mel import Spectrum
from textpro_stream.whisper.model import MelWindow
from textpro_stream.whisper.weights import load_weights

CPU = torch.device("cpu")
TOKENS = (260, 271, 259, 290, 280)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(random_model(), tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="module")
def plain(folder: Path) -> WhisperPro:
    return WhisperPro.load(folder, WhisperOptions(adapter="", dtype="float32"), CPU)


def spoken(name: str, seed: int, seconds: float = 3.0) -> Spoken:
    clip = Clip(name, Path(name), "", "", "", "", "", 1, {})
    samples = (32767 * melody(seconds, seed)).astype(np.int16)
    positions = tuple(range(20, 20 + 20 * len(TOKENS), 20))
    return Spoken(clip, samples, TOKENS, positions)


CLEAN = Augmentation(noise=0.0, room=0.0, telephone=0.0, gain_db=(0.0, 0.0))


def objective(
    folder: Path, plain: WhisperPro, rules: Distillation, augmentation: Augmentation | None = None
) -> EncoderDistillation:
    clips = [spoken(f"clip {seed}", seed) for seed in range(4)]
    return EncoderDistillation(
        plain.model,
        load_weights(folder, "float32", CPU),
        filters=plain.filters,
        prompt=plain.tokens.prompt,
        train=clips,
        held_out=clips[:2],
        rank=4,
        rules=rules,
        augmentation=augmentation,
    )


@pytest.mark.parametrize("grid", [Grid(16, 8, warm=40), Grid(32, 16), Grid(24, 0, warm=0)])
def test_the_student_hears_what_streaming_hears(plain: WhisperPro, grid: Grid) -> None:
    samples = np.concatenate([0.01 * melody(1.5, 1), melody(1.7, 2)])  # louder and louder
    model = plain.model
    columns, blocks = block_rows(model, plain.filters, samples, grid, ending=50)
    found = model.encoder(columns, blocks).states[0, : blocks.n_final]
    spectrum, slot, length, streamed = Spectrum(plain.filters), plain.pool.take(), 0, []
    at = 0
    with torch.inference_mode():
        while (end := at + grid.block * 320) <= len(samples):
            spectrum.push(samples[at:end])
            at = end
            available = grid.heard(end)
            n, n_final = available - length, grid.n_final(available, length)
            mel = spectrum.look(available, available)
            rows = model.encoder.stem(MelWindow.cut(mel, length, n))
            states = model.encoder(rows, EncoderAppend(slot, length, n)).states
            streamed.append(states[0, :n_final])
            length += n_final
    torch.testing.assert_close(found, torch.cat(streamed), rtol=1e-4, atol=1e-4)


def test_a_clip_heard_at_once_is_heard_as_the_teacher_hears_it(
    folder: Path, plain: WhisperPro
) -> None:
    at_once = Distillation(blocks_ms=(9600,), look_aheads_ms=(0,), cut=0.0, endings=(AFTER,))
    found = objective(folder, plain, at_once, CLEAN)
    example = found.example(np.random.default_rng(0))
    assert found.name_of(example).startswith("clip ")
    losses = found.losses(example)
    assert float(losses["states"].detach()) < 1e-6
    assert float(losses["tokens"].detach()) < 1e-5


def test_it_brings_the_student_nearer_and_writes_what_a_recogniser_loads(
    folder: Path, plain: WhisperPro, tmp_path: Path
) -> None:
    rules = Distillation(blocks_ms=(320,), look_aheads_ms=(0,))
    schedule = Schedule(steps=6, accumulate=2, rate=3e-3, evaluate_every=6)
    lines = Run(objective(folder, plain, rules), schedule, tmp_path, tell=lambda _: None).train()
    assert lines[-1]["states"] < 0.9 * lines[0]["states"]
    path = tmp_path / "encoder.safetensors"
    adapted = WhisperPro.load(folder, WhisperOptions(adapter=str(path)), CPU).model
    rows = torch.randn(1, 30, plain.model.dims.d_model)
    assert not torch.allclose(adapted.encoder(rows).states, plain.model.encoder(rows).states)


def test_words_that_a_cut_leaves_out_are_not_asked_for(folder: Path, plain: WhisperPro) -> None:
    found = objective(folder, plain, Distillation(cut=1.0))
    drawn = [found.example(np.random.default_rng(seed)) for seed in range(30)]
    for example in drawn:
        n_heard = len(example.clean) // 320
        assert len(example.heard) == len(example.clean) >= 24_000
        assert all(position < n_heard for position in example.positions)
        assert len(example.tokens) == len(example.positions) == len(example.later) - 1
    assert len({len(example.clean) for example in drawn}) > 20
