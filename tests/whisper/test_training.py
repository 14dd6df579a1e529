"""The modules that stream can be trained: whole clips under the mask that streaming obeys."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_whisper import melody, pieces
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from textpro_stream.config import WhisperOptions
from textpro_stream.whisper import WhisperPro
from textpro_stream.whisper.blocks import Blocks, Grid, WholeText
from textpro_stream.whisper.cache import DecoderAppend, EncoderAppend, Pool
from textpro_stream.whisper.mel import MelStream, normalise
from textpro_stream.whisper.model import MelWindow, Whisper
from textpro_stream.whisper.weights import load_weights

CPU = torch.device("cpu")
GRID = Grid(block=16, look_ahead=8, warm=40)
IDS = [260, 271, 259, 290, 280, 265, 300, 257]  # any ids of the text vocabulary


@pytest.fixture(scope="module")
def model(random_folder: Path) -> Whisper:
    return load_weights(random_folder, "float32", CPU)


def rows_of(model: Whisper, seed: int, n: int) -> Tensor:
    """Stem rows (1, n, d_model) of a tune."""
    mel = MelStream(WhisperFilters.of(model)).push(melody(n / 50 + 0.1, seed))
    found: Tensor = model.encoder.stem(MelWindow.cut(normalise(mel, mel.max()), 0, n))
    return found


class WhisperFilters:
    """Mel filters of a model, made once."""

    made: Tensor | None = None

    @classmethod
    def of(cls, model: Whisper) -> Tensor:
        from textpro_stream.whisper.mel import mel_filters

        if cls.made is None:
            cls.made = mel_filters(model.dims.n_mels)
        return cls.made


def test_loaded_weights_ask_for_no_gradient_and_can_be_asked(random_folder: Path) -> None:
    model = load_weights(random_folder, "float32", CPU)
    assert not any(p.requires_grad or p.is_inference() for p in model.parameters())
    rows = rows_of(model, 0, 50)
    assert not model.encoder(rows).states.requires_grad
    model.requires_grad_()
    assert model.encoder(rows).states.requires_grad


def test_gradients_reach_every_weight_under_the_streaming_mask(random_folder: Path) -> None:
    model = load_weights(random_folder, "float32", CPU).requires_grad_()
    blocks = Blocks(GRID.plan(2 * 16_000), CPU)
    n = int(blocks.positions.max()) + 1
    mel = MelStream(WhisperFilters.of(model)).push(melody(2.2, 3))
    window = MelWindow.cut(normalise(mel, mel.max()), 0, n)
    ids = torch.tensor([IDS])
    said_in = torch.tensor([3, 3, 4, 4, 4, 5, 5, 5])  # the block after which a token was said

    def loss(columns: Tensor) -> Tensor:
        states = model.encoder(columns, blocks).states
        view = WholeText(len(IDS), model.decoder.cross_rows(states), blocks.seen_by(said_in))
        decoded = model.decoder(ids, view)
        logits = model.vocabulary(decoded.states[:, :-1])
        likely = torch.nn.functional.cross_entropy(logits[0], ids[0, 1:])
        return likely + decoded.middle.square().mean() + decoded.attention.square().mean()

    columns = blocks.columns(model.encoder.stem(window))
    plain = loss(columns)
    plain.backward(retain_graph=True)
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert set(expected) == {name for name, _ in model.named_parameters()}
    assert all(grad.isfinite().all() and grad.any() for grad in expected.values())
    model.zero_grad()
    again = checkpoint(loss, columns, use_reentrant=False)
    assert isinstance(again, Tensor)
    again.backward()
    torch.testing.assert_close(again, plain)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name])


@given(
    grid=st.builds(Grid, st.integers(8, 40), st.integers(0, 20), st.integers(0, 60)),
    seed=st.integers(0, 20),
)
@settings(max_examples=15, deadline=None)
def test_a_token_hears_in_training_what_it_heard_in_its_block(
    model: Whisper, grid: Grid, seed: int
) -> None:
    """The decoder, fed anew after each block, against one pass over the whole clip."""
    plan = grid.plan(2 * 16_000)
    if not plan:
        return
    blocks = Blocks(plan, CPU)
    rows = rows_of(model, seed, int(blocks.positions.max()) + 1)
    whole = model.encoder(blocks.columns(rows), blocks).states
    cross = model.decoder.cross_rows(whole)
    slot, length = Pool(model.dims, model.dtype, CPU).take(), 0
    for number, (n_final, n_ahead) in enumerate(plan):
        n = n_final + n_ahead
        found = model.encoder(rows[:, length : length + n], EncoderAppend(slot, length, n)).states
        slot.hear(model.decoder.cross_rows(found), length)
        streamed = model.decoder(torch.tensor([IDS]), DecoderAppend(slot, 0, len(IDS), length + n))
        heard = blocks.seen_by(torch.full((len(IDS),), number))
        trained = model.decoder(torch.tensor([IDS]), WholeText(len(IDS), cross, heard))
        torch.testing.assert_close(trained.states, streamed.states, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(trained.middle, streamed.middle, rtol=1e-4, atol=1e-4)
        length += n_final


@pytest.mark.parametrize(("block_ms", "look_ahead_ms"), [(640, 320), (320, 0), (960, 480)])
def test_the_plan_is_what_a_recognizer_does(
    listening_folder: Path, block_ms: int, look_ahead_ms: int
) -> None:
    options = WhisperOptions(block_ms=block_ms, look_ahead_ms=look_ahead_ms)
    model = WhisperPro.load(listening_folder, options, CPU)
    recognizer, done = model.open(), []
    for chunk in pieces(melody(5, 0), [block_ms * 16]):
        before = recognizer.work.positions_final, recognizer.work.positions_provisional
        recognizer.push(chunk)
        work = recognizer.work
        done.append((work.positions_final - before[0], work.positions_provisional - before[1]))
    assert done[: 5000 // block_ms] == Grid.of(block_ms, look_ahead_ms).plan(5 * 16_000)
