from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_whisper import features, melody
from torch import Tensor
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from textpro_stream.whisper.blocks import Blocks
from textpro_stream.whisper.cache import EncoderAppend, Pool, Slot
from textpro_stream.whisper.model import MelWindow, Whisper
from textpro_stream.whisper.weights import load_weights

CPU = torch.device("cpu")
N = 160  # positions used where a whole window is not needed
Plan = list[tuple[int, int]]  # of each block: positions that become final, look-ahead


@pytest.fixture(scope="module")
def model(random_folder: Path) -> Whisper:
    return load_weights(random_folder, "float32", CPU)


@pytest.fixture(scope="module")
def theirs(random_folder: Path) -> WhisperEncoder:
    loaded = WhisperForConditionalGeneration.from_pretrained(
        random_folder, attn_implementation="eager"
    )
    encoder: WhisperEncoder = loaded.eval().model.encoder
    return encoder.requires_grad_(False)


@pytest.fixture(scope="module")
def mel() -> Tensor:
    """(3000, 80)"""
    return features(melody(30, 0))[0].T


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def slot_of(model: Whisper) -> Slot:
    return Pool(model.dims, model.dtype, model.device).take()


def stem(model: Whisper, mel: Tensor, first: int, n: int) -> Tensor:
    found: Tensor = model.encoder.stem(MelWindow.cut(mel, first, n))
    return found


def streamed(model: Whisper, rows: Tensor, plan: Plan) -> list[Tensor]:
    """States of each step, (n_final + n_ahead, d_model), appended to a slot."""
    slot, length, found = slot_of(model), 0, []
    for n_final, n_ahead in plan:
        n = n_final + n_ahead
        view = EncoderAppend(slot, length, n)
        found.append(model.encoder(rows[:, length : length + n], view).states[0])
        length += n_final
    return found


def test_a_whole_window_is_transformers_encoder(
    model: Whisper, theirs: WhisperEncoder, mel: Tensor
) -> None:
    output = theirs(mel.T[None], output_hidden_states=True)
    encoded = model.encoder(stem(model, mel, 0, 1500), layers=(1, 2))
    close(encoded.states, output.last_hidden_state)
    close(encoded.layers[0], output.hidden_states[1])
    assert len(encoded.layers) == 2


@pytest.mark.parametrize("sizes", [[1500], [1, 1, 2, 32, 700, 764], [749, 750, 1]])
def test_the_stem_does_not_depend_on_the_cuts(
    model: Whisper, mel: Tensor, sizes: list[int]
) -> None:
    first, parts = 0, []
    for n in sizes:
        known = min(2 * (first + n) + 2, 3000)  # two frames more than the last position's own
        parts.append(stem(model, mel[:known], first, n))
        first += n
    close(torch.cat(parts, 1), stem(model, mel, 0, 1500))


def test_the_stem_does_not_hear_further_than_two_frames_ahead(model: Whisper, mel: Tensor) -> None:
    spoiled = mel.clone()
    spoiled[2 * N + 2 :] = 9.0
    assert torch.equal(stem(model, spoiled, 0, N), stem(model, mel, 0, N))


@pytest.mark.parametrize("firsts", [(0, 40), (40, 60), (0, 0)])
def test_stems_of_several_clips_are_one_batch(
    model: Whisper, mel: Tensor, firsts: tuple[int, int]
) -> None:
    windows = [MelWindow.cut(mel, first, 20) for first in firsts]
    together = model.encoder.stem(MelWindow.stack(windows))
    close(together, torch.cat([stem(model, mel, first, 20) for first in firsts]))


def one_pass(theirs: WhisperEncoder, rows: Tensor, plan: Plan) -> list[Tensor]:
    """What a plan of blocks must give, from transformers' layers alone.

    Each block is run with all before it that is final; of that, keys and values come from the rows
    as they were when they became final. Written without a cache, so that none is believed.
    """
    final: list[Tensor] = []  # by layer: input rows that became final
    found, begin = [], 0
    for n_final, n_ahead in plan:
        places = slice(begin, begin + n_final + n_ahead)
        x = rows[places] + theirs.embed_positions.weight[places]
        for i, layer in enumerate(theirs.layers):
            before = final[i] if i < len(final) else x[:0]
            whole = torch.cat([before, x])[None]
            output = layer(whole, torch.zeros(1, 1, 1, 1))
            final[i : i + 1] = [torch.cat([before, x[:n_final]])]
            x = (output[0] if isinstance(output, tuple) else output)[-len(x) :]
            x = x[0] if x.dim() == 3 else x
            x = x[len(before) :] if len(x) == whole.shape[1] else x
        found.append(theirs.layer_norm(x))
        begin += n_final
    return found


plans = st.lists(
    st.tuples(st.integers(0, 24), st.integers(0, 12)).filter(lambda n: sum(n) > 0),
    min_size=1,
    max_size=6,
)


@given(plan=plans)
@settings(max_examples=25, deadline=None)
def test_steps_are_transformers_layers_over_what_is_final(
    model: Whisper, theirs: WhisperEncoder, mel: Tensor, plan: Plan
) -> None:
    rows = stem(model, mel, 0, N + 40)
    for found, expected in zip(
        streamed(model, rows, plan), one_pass(theirs, rows[0], plan), strict=True
    ):
        close(found, expected)


@given(plan=plans)
@settings(max_examples=25, deadline=None)
def test_a_whole_clip_under_the_streaming_mask_is_every_step_of_it(
    model: Whisper, mel: Tensor, plan: Plan
) -> None:
    rows, blocks = stem(model, mel, 0, N + 40), Blocks(plan, CPU)
    whole = model.encoder(blocks.columns(rows), blocks).states[0]
    begin = 0
    for number, (found, (n_final, _)) in enumerate(
        zip(streamed(model, rows, plan), plan, strict=True)
    ):
        own = blocks.block == number
        close(found, torch.cat([whole[own & blocks.final], whole[own & ~blocks.final]]))
        places = torch.cat(
            [blocks.positions[own & blocks.final], blocks.positions[own & ~blocks.final]]
        )
        assert places.tolist() == list(range(begin, begin + len(found)))
        begin += n_final


def test_what_is_final_does_not_know_what_follows(model: Whisper, mel: Tensor) -> None:
    spoiled = mel.clone()
    spoiled[2 * 80 + 2 :] = 1.0  # behind position 80
    plan = [(64, 16), (40, 0)]
    known, changed = (streamed(model, stem(model, m, 0, 104), plan) for m in (mel, spoiled))
    assert torch.equal(known[0], changed[0])
    assert torch.allclose(known[1][:16], changed[1][:16]) is False  # they see what follows
