from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from tiny_whisper import features, melody
from torch import Tensor

from textpro_stream.whisper.cache import DecoderFixed, EncoderFixed, Pool
from textpro_stream.whisper.decoding import Decode, Encode, GreedyDecoder, encode
from textpro_stream.whisper.model import MelWindow, Whisper
from textpro_stream.whisper.tokens import Tokens
from textpro_stream.whisper.weights import load_weights

CPU = torch.device("cpu")
IDS = [260, 271, 259, 290]


@pytest.fixture(scope="module")
def model(random_folder: Path) -> Whisper:
    return load_weights(random_folder, "float32", CPU)


def mel_of(seed: int) -> Tensor:
    return features(melody(20, seed))[0].T


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def pool_of(model: Whisper, slots: int = 1) -> Pool:
    return Pool(model.dims, model.dtype, CPU, slots)


def test_a_slot_goes_back_with_its_conversation_and_its_memory_with_the_last(
    model: Whisper,
) -> None:
    pool = pool_of(model, 2)
    first, second, third = pool.take(), pool.take(), pool.take()
    assert [len(block.free) for block in pool.blocks] == [0, 1]
    assert first.cache is second.cache is not third.cache
    index, block = first.index, first.cache
    del first
    gc.collect()
    again = pool.take()
    assert (again.index, again.cache) == (index, block)
    del again, second, third
    gc.collect()
    assert pool.blocks == []


@pytest.mark.parametrize("slots", [1, 4])
def test_steps_of_several_conversations_are_one_forward(model: Whisper, slots: int) -> None:
    pool, alone = pool_of(model, slots), pool_of(model)
    lengths = [60, 80, 100]  # where each conversation stands before the common step
    together, separate = [], []
    for seed, length in enumerate(lengths):
        mel = mel_of(seed)
        pair = pool.take(), alone.take()
        for slot in pair:
            encode(model, [Encode(slot, mel, 0, length)])
        together.append(Encode(pair[0], mel, length, 24))
        separate.append(Encode(pair[1], mel, length, 24))
    close(encode(model, together), torch.cat([encode(model, [step]) for step in separate]))
    for one, other in zip(together, separate, strict=True):
        for (keys, values), (k, v) in zip(one.slot.cross, other.slot.cross, strict=True):
            close(keys[:, :, one.first : one.first + 24], k[:, :, one.first : one.first + 24])
            close(values[:, :, one.first : one.first + 24], v[:, :, one.first : one.first + 24])


def test_fixed_shapes_give_what_each_slot_gives_alone(model: Whisper, random_folder: Path) -> None:
    """One forward over all slots, with positions as tensors: what a captured step runs."""
    pool, alone = pool_of(model, 3), pool_of(model)
    tokens = Tokens(random_folder, model.dims.n_vocabulary)
    decoder = GreedyDecoder(model, tokens)
    starts, counts, n = [40, 64, 0], [24, 16, 20], 24  # new positions; filled up to n
    pairs = [(pool.take(), alone.take()) for _ in starts]
    windows, expected = [], []
    for seed, ((slot, own), start, count) in enumerate(zip(pairs, starts, counts, strict=True)):
        mel = mel_of(seed)
        if start:
            for held in (slot, own):
                encode(model, [Encode(held, mel, 0, start)])
        windows.append(MelWindow.cut(mel, start, n))
        expected.append(encode(model, [Encode(own, mel, start, count)])[0])
    order = [slot.index for slot, _ in pairs]
    by_slot = [order.index(i) for i in range(3)]
    first = torch.tensor([starts[i] for i in by_slot])
    ends = torch.tensor([starts[i] + counts[i] for i in by_slot])
    cache = pairs[0][0].cache
    rows = model.encoder.stem(MelWindow.stack([windows[i] for i in by_slot]))
    states = model.encoder(rows, EncoderFixed(cache, first, ends, n)).states
    for place, i in enumerate(by_slot):
        close(states[place, : counts[i]], expected[i])
        pairs[i][0].hear(model.decoder.cross_rows(states[place : place + 1]), starts[i])
    for at, token in enumerate(IDS):
        fixed = model.decoder(
            torch.full((3, 1), token), DecoderFixed(cache, torch.full((3,), at), ends)
        )
        for place, i in enumerate(by_slot):
            heard = starts[i] + counts[i]
            (choice,), middle = decoder.run(Decode(pairs[i][1], [token], at, heard, 1))
            close(fixed.middle[place], middle)
            assert fixed.attention[place, ..., heard:].sum() == 0
            logits = model.vocabulary(fixed.states[place])
            expected_end = logits.log_softmax(-1)[0, tokens.end]
            assert choice.end_logprob == pytest.approx(float(expected_end), abs=1e-3)
