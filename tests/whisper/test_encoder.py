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

from textpro_stream.whisper.encoder import EncoderState
from textpro_stream.whisper.weights import WhisperWeights, load_weights

N = 160  # positions used where a whole window is not needed
Plan = list[tuple[int, int]]  # of each block: positions that become final, look-ahead


@pytest.fixture(scope="module")
def weights(random_folder: Path) -> WhisperWeights:
    return load_weights(random_folder, "float32", torch.device("cpu"))


@pytest.fixture(scope="module")
def theirs(random_folder: Path) -> WhisperEncoder:
    model = WhisperForConditionalGeneration.from_pretrained(
        random_folder, attn_implementation="eager"
    )
    encoder: WhisperEncoder = model.eval().model.encoder
    return encoder


@pytest.fixture(scope="module")
def mel() -> Tensor:
    """(3000, 80)"""
    return features(melody(30, 0))[0].T


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_one_step_over_a_window_is_transformers_encoder(
    weights: WhisperWeights, theirs: WhisperEncoder, mel: Tensor
) -> None:
    ours = EncoderState(weights)
    found = ours.step(ours.stem(mel, 0, 1500), 1500)
    close(found, theirs(mel.T[None]).last_hidden_state[0])
    assert ours.length == 1500


@pytest.mark.parametrize("sizes", [[1500], [1, 1, 2, 32, 700, 764], [749, 750, 1]])
@torch.inference_mode()
def test_the_stem_does_not_depend_on_the_cuts(
    weights: WhisperWeights, mel: Tensor, sizes: list[int]
) -> None:
    state, first, parts = EncoderState(weights), 0, []
    for n in sizes:
        known = min(2 * (first + n) + 2, 3000)  # two frames more than the last position's own
        parts.append(state.stem(mel[:known], first, n))
        first += n
    close(torch.cat(parts), state.stem(mel, 0, 1500))


@torch.inference_mode()
def test_the_stem_does_not_hear_further_than_two_frames_ahead(
    weights: WhisperWeights, mel: Tensor
) -> None:
    state = EncoderState(weights)
    spoiled = mel.clone()
    spoiled[2 * N + 2 :] = 9.0
    assert torch.equal(state.stem(spoiled, 0, N), state.stem(mel, 0, N))


def one_pass(theirs: WhisperEncoder, stem: Tensor, plan: Plan) -> tuple[list[Tensor], list[Tensor]]:
    """What a plan of blocks must give, from one masked pass through transformers' layers.

    All final positions come first, then each block's private copies of its look-ahead positions. A
    row sees the final rows up to the end of its own block, and the copies of its own block.
    """
    places, blocks, final = [], [], []
    begin = 0
    for block, (n_final, _) in enumerate(plan):
        places += range(begin, begin + n_final)
        blocks += [block] * n_final
        final += [True] * n_final
        begin += n_final
    begin = 0
    for block, (n_final, n_ahead) in enumerate(plan):
        begin += n_final
        places += range(begin, begin + n_ahead)
        blocks += [block] * n_ahead
        final += [False] * n_ahead
    block_of, is_final = torch.tensor(blocks), torch.tensor(final)
    earlier = is_final[None, :] & (block_of[None, :] <= block_of[:, None])
    own = ~is_final[None, :] & (block_of[None, :] == block_of[:, None])
    mask = torch.zeros(len(places), len(places)).masked_fill(~(earlier | own), -torch.inf)
    x = (stem + theirs.embed_positions.weight[: len(stem)])[places][None]
    for layer in theirs.layers:
        output = layer(x, mask[None, None])
        x = output[0] if isinstance(output, tuple) else output
    x = theirs.layer_norm(x)[0]
    rows = range(len(plan))
    return (
        [x[is_final & (block_of == block)] for block in rows],
        [x[~is_final & (block_of == block)] for block in rows],
    )


plans = st.lists(
    st.tuples(st.integers(0, 24), st.integers(0, 12)).filter(lambda n: sum(n) > 0),
    min_size=1,
    max_size=6,
)


@given(plan=plans)
@settings(max_examples=25, deadline=None)
def test_blocks_with_look_ahead_are_one_masked_pass(
    weights: WhisperWeights, theirs: WhisperEncoder, mel: Tensor, plan: Plan
) -> None:
    with torch.inference_mode():
        state = EncoderState(weights)
        stem = state.stem(mel, 0, N + 40)
        final, ahead = one_pass(theirs, stem, plan)
        for (n_final, n_ahead), kept, spare in zip(plan, final, ahead, strict=True):
            first = state.length
            found = state.step(stem[first : first + n_final + n_ahead], n_final)
            assert state.length == first + n_final
            close(found[:n_final], kept)
            close(found[n_final:], spare)


@torch.inference_mode()
def test_what_is_final_does_not_know_what_follows(weights: WhisperWeights, mel: Tensor) -> None:
    spoiled = mel.clone()
    spoiled[2 * 80 + 2 :] = 1.0  # behind position 80
    first, second = EncoderState(weights), EncoderState(weights)
    a = first.step(first.stem(mel, 0, 80), 64)
    b = second.step(second.stem(spoiled, 0, 80), 64)
    assert torch.equal(a, b)
    first.step(first.stem(mel, 64, 40), 40)
    second.step(second.stem(spoiled, 64, 40), 40)
    assert torch.equal(first._keys[:, :, :64], second._keys[:, :, :64])
    assert not torch.equal(first._keys[:, :, 81:104], second._keys[:, :, 81:104])
