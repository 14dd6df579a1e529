"""The module itself: one forward, whole or through a cache, and gradients through it."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from textpro_stream.errors import StageError
from textpro_stream.graphs import CapturedStep
from textpro_stream.llm.kv import KvCache
from textpro_stream.llm.model import Dimensions, Llama
from textpro_stream.llm.projector import random_projector
from textpro_stream.llm.session import KvSession, LlamaBackbone, fixed_step

N, VOCABULARY, D_MODEL, D_PROSODY = 24, 50, 32, 12
DIMS = Dimensions(
    d_model=D_MODEL,
    d_mlp=48,
    d_head=8,
    n_layers=3,
    n_heads=4,
    n_kv_heads=2,
    n_vocabulary=VOCABULARY,
    context=128,
    eps=1e-5,
    tied=True,
    rope={"rope_type": "default", "rope_theta": 1e4},
)


def llama(dims: Dimensions = DIMS) -> Llama:
    """Random and with gradients, as training from nothing would begin."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Llama(dims)
        torch.nn.init.normal_(model.embedding)
        return model


def rows(n: int = N, b: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(b, n, D_MODEL, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model() -> Llama:
    """As a loaded one: asks for no gradient."""
    return llama().requires_grad_(False)


def states_of(session: KvSession, end: int) -> Tensor:
    """Logits after every row, read by cropping from the back."""
    read = []
    for length in range(end, 0, -1):
        session.crop(length)
        read.append(session.logits())
    return torch.stack(read[::-1])


@given(
    cuts=st.lists(st.integers(1, N - 1), max_size=6),
    forgotten=st.lists(st.integers(0, 9), min_size=7, max_size=7),
)
@settings(max_examples=30, deadline=None)
def test_whole_sequences_are_their_pieces_through_a_cache(
    cuts: list[int], forgotten: list[int], model: Llama
) -> None:
    """However they are cut, and whatever was appended and cropped again between."""
    whole = model.vocabulary(model(rows()))[0]  # (N, n_vocabulary)
    session = LlamaBackbone(model).open(N + 3)
    for end, n in zip([*sorted(cuts), N], forgotten, strict=False):
        session.prefill(rows()[0, session.length : end])
        session.prefill(rows(3, seed=9)[0])
        session.crop(max(0, end - n))
    session.prefill(rows()[0, session.length :])
    torch.testing.assert_close(states_of(session, N), whole, atol=1e-4, rtol=1e-4)


def test_a_batch_is_its_sequences(model: Llama) -> None:
    batch = rows(b=3)
    for one, together in zip(batch, model(batch), strict=True):
        torch.testing.assert_close(model(one[None])[0], together, atol=1e-5, rtol=1e-5)


@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=4), slots=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_conversations_of_any_length_decode_together_as_alone(
    lengths: list[int], slots: int, model: Llama
) -> None:
    backbone = LlamaBackbone(model, slots)
    together, alone = ([backbone.open(32) for _ in lengths] for _ in range(2))
    for n, *sessions in zip(lengths, together, alone, strict=True):
        for session in sessions:
            session.prefill(rows(seed=n)[0, :n])
    for step in range(2):
        tokens = [5 + step + n for n in range(len(lengths))]
        backbone.decode_together(together, tokens)
        for one, other, token in zip(together, alone, tokens, strict=True):
            other.decode(token)
            assert one.length == other.length
            torch.testing.assert_close(one.logits(), other.logits(), atol=1e-4, rtol=1e-4)
    for one, other in zip(together, alone, strict=True):  # what was written stands
        read = states_of(other, other.length)
        torch.testing.assert_close(states_of(one, one.length), read, atol=1e-4, rtol=1e-4)


def test_if_one_of_them_is_full_none_moves(model: Llama) -> None:
    backbone = LlamaBackbone(model)
    roomy, full = backbone.open(32), backbone.open(4)
    for session in (roomy, full):
        session.prefill(rows(4)[0])
    with pytest.raises(StageError, match="needs 5 rows, the cache holds 4"):
        backbone.decode_together([roomy, full], [1, 2])
    assert (roomy.length, full.length) == (4, 4)


def decode_all(step: object, cache: KvCache, steps: int) -> Tensor:
    """Logits (steps, slots, n_vocabulary), each slot one position behind the one before it."""
    assert callable(step)
    device, made = cache.keys.device, []
    for n in range(steps):
        tokens = torch.tensor([7 + n] * cache.slots, device=device)
        # Slots that are not begun yet take part at position 0, again and again.
        positions = torch.tensor([max(0, n - slot) for slot in range(cache.slots)], device=device)
        made.append(step(tokens, positions).clone())
    return torch.stack(made)


def test_a_step_of_fixed_shapes_finds_each_slot_where_it_is(model: Llama) -> None:
    cache = KvCache(DIMS, 3, 16, torch.float32, torch.device("cpu"))
    found = decode_all(fixed_step(model, cache), cache, 6)
    for slot in range(3):
        begun = torch.arange(7 + slot, 13)  # the tokens it was given since it began
        expected = model.vocabulary(model(model.embed(begun)[None]))[0]
        torch.testing.assert_close(found[slot:, slot], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.gpu
def test_a_captured_step_is_the_step(model: Llama) -> None:
    cuda = torch.device("cuda")
    on_gpu = llama().requires_grad_(False).to(cuda)
    plain, captured = (KvCache(DIMS, 3, 16, torch.float32, cuda) for _ in range(2))
    zeros = torch.zeros(3, dtype=torch.long, device=cuda)
    with torch.inference_mode():
        expected = decode_all(fixed_step(on_gpu, plain), plain, 6)
        step = CapturedStep(fixed_step(on_gpu, captured), [zeros, zeros])
        torch.testing.assert_close(decode_all(step, captured, 6), expected, atol=1e-4, rtol=1e-4)


def test_memory_goes_back_with_its_last_conversation(model: Llama) -> None:
    backbone = LlamaBackbone(model, slots=2)
    one, two, three = (backbone.open(16) for _ in range(3))
    assert len(backbone.pool.blocks) == 2
    del one
    gc.collect()
    four = backbone.open(16)  # in the place of the first
    assert len(backbone.pool.blocks) == 2
    wide = backbone.open(17)  # no slot is long enough
    assert len(backbone.pool.blocks) == 3
    del two, three, four, wide
    gc.collect()
    assert backbone.pool.blocks == []


def test_a_cache_may_be_opened_and_used_in_any_mode(model: Llama) -> None:
    """Opened in the device's thread, looked at elsewhere, or the other way round."""
    with torch.inference_mode():
        inside = LlamaBackbone(model).open(16)
        inside.prefill(rows(4)[0])
    outside = LlamaBackbone(model).open(16)
    outside.prefill(rows(4)[0])
    inside.decode(3)
    with torch.inference_mode():
        outside.decode(3)
        torch.testing.assert_close(inside.logits(), outside.logits())
    assert model(rows(seed=1).requires_grad_()).requires_grad  # its tables are no inference tensors


def test_nothing_waits_for_a_device() -> None:
    """A forward on tensors without values: reading one would fail."""
    with FakeTensorMode():
        fake = Llama(DIMS).requires_grad_(False)
        backbone = LlamaBackbone(fake)
        session, other = backbone.open(16), backbone.open(16)
        session.prefill(fake.embed(torch.zeros(5, dtype=torch.long)))
        session.decode(2)
        session.crop(4)
        backbone.decode_together([session, other], [1, 2])
        assert session.logits().shape == (VOCABULARY,)
        assert fake(torch.zeros(2, 7, D_MODEL)).shape == (2, 7, D_MODEL)


def test_training_goes_through_the_same_forward() -> None:
    """Gradients of a checkpointed loss reach the model and the projector's tones before it."""
    ids = torch.arange(1, 13).view(2, 6)

    def gradients(*, checkpointed: bool) -> list[Tensor]:
        model, projector = llama(), random_projector(D_PROSODY, D_MODEL).requires_grad_()
        tones = projector(rows(2, seed=4)[0, :, :D_PROSODY])[:, None]  # one before each sequence
        states = model(torch.cat((tones, model.embed(ids)), dim=1))[:, :-1]

        def loss(states: Tensor) -> Tensor:
            return F.cross_entropy(model.vocabulary(states).flatten(0, 1), ids.flatten())

        spare = checkpoint(loss, states, use_reentrant=False) if checkpointed else loss(states)
        spare.backward()
        parameters = [*model.parameters(), *projector.parameters()]
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
        return [p.grad for p in parameters if p.grad is not None]

    spared, plain = gradients(checkpointed=True), gradients(checkpointed=False)
    for one, other in zip(spared, plain, strict=True):
        assert one.abs().sum() > 0
        torch.testing.assert_close(one, other)


def test_no_row_sees_what_comes_after_it(model: Llama) -> None:
    given = rows().requires_grad_()
    model(given)[0, 9].sum().backward()
    assert given.grad is not None
    reached = given.grad[0].abs().sum(-1) > 0
    assert reached.tolist() == [True] * 10 + [False] * (N - 10)


def test_gradients_are_those_of_finite_differences() -> None:
    small = Dimensions(8, 12, 4, 2, 2, 1, 9, 16, 1e-5, False, DIMS.rope)
    model = llama(small).double()
    torch.nn.init.normal_(model.vocabulary.weight)
    given = torch.randn(1, 4, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model.vocabulary(model(x)).double(), (given,),
                                    atol=1e-3, rtol=1e-2, eps=1e-3)  # fmt: skip
