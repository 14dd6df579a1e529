from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from textpro_stream.checkpoint import Checkpoint
from textpro_stream.errors import StageError
from textpro_stream.llm import LanguageModel
from textpro_stream.llm.kv import KvCache
from textpro_stream.llm.projector import random_projector
from textpro_stream.llm.sampling import nucleus, penalise
from textpro_stream.llm.session import LlamaBackbone, fixed_step
from textpro_stream.llm.weights import language_config, load_weights

Load = Callable[..., LanguageModel]

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
ARCHITECTURES: list[tuple[str, dict[str, Any]]] = [
    ("Llama", {}),
    ("Llama", {"tie_word_embeddings": True, "head_dim": 16}),
    ("Llama", {"attention_bias": True, "mlp_bias": True}),
    ("Llama", {"rope_parameters": LLAMA3}),
    ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    ("Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    ("Mistral", {"sliding_window": None}),
    ("Qwen3", {}),  # through transformers
    ("GPTNeoX", {"num_key_value_heads": None}),  # through transformers
]  # fmt: skip
# Without VNNI activations have seven bits, and twice the error.
INT8_ERROR = 0.06 if torch.cpu._is_vnni_supported() else 0.12
IDS = [int(i) for i in torch.randint(3, 380, (60,), generator=torch.Generator().manual_seed(5))]


def names(case: tuple[str, dict[str, Any]]) -> str:
    return "-".join([case[0], *case[1]])


def by_transformers(folder: Path, ids: list[int]) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return model(torch.tensor([ids])).logits[0]  # (n, n_vocabulary)


@pytest.mark.parametrize("case", ARCHITECTURES, ids=names)
def test_logits_are_those_of_transformers(
    case: tuple[str, dict[str, Any]], load: Load, folder_of: Callable[..., Path]
) -> None:
    kind, changes = case
    model = load(kind, config=changes)
    expected = by_transformers(folder_of(kind, **changes), IDS)
    session = model.backbone.open(128)
    session.prefill(model.rows(IDS[:40]))
    for token in IDS[40:]:
        session.decode(token)
    torch.testing.assert_close(session.logits(), expected[-1], atol=2e-4, rtol=1e-4)
    session.crop(17)
    torch.testing.assert_close(session.logits(), expected[16], atol=2e-4, rtol=1e-4)
    session.prefill(model.rows(IDS[17:]))  # looking changed nothing
    torch.testing.assert_close(session.logits(), expected[-1], atol=2e-4, rtol=1e-4)
    if isinstance(model.backbone, LlamaBackbone):  # and without a cache, as training runs it
        llama = model.backbone.model
        whole = llama.vocabulary(llama(model.rows(IDS)[None]))[0]
        torch.testing.assert_close(whole, expected, atol=2e-4, rtol=1e-4)


def test_our_own_step_serves_the_family_and_transformers_the_rest(load: Load) -> None:
    assert isinstance(load("Qwen2").backbone, LlamaBackbone)
    assert not isinstance(load("Qwen3").backbone, LlamaBackbone)


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3"])
@given(
    cuts=st.lists(st.integers(1, len(IDS) - 1), max_size=5),
    forgotten=st.lists(st.integers(0, 9), min_size=6, max_size=6),
)
@settings(max_examples=12, deadline=None)
def test_rows_bit_by_bit_are_the_rows_at_once(
    cuts: list[int], forgotten: list[int], kind: str, load: Load
) -> None:
    """However they are cut, and whatever was appended and cropped again between."""
    model = load(kind)
    whole = model.backbone.open(64)
    whole.prefill(model.rows(IDS))
    session = model.backbone.open(64)
    for end, n in zip([*sorted(cuts), len(IDS)], forgotten, strict=False):
        session.prefill(model.rows(IDS[session.length : end]))
        session.prefill(model.rows([9, 8, 7]))
        session.crop(max(0, end - n))
    session.prefill(model.rows(IDS[session.length :]))
    assert session.length == whole.length == len(IDS)
    torch.testing.assert_close(session.logits(), whole.logits(), atol=2e-4, rtol=1e-4)


def test_int8_stays_close_to_float32(load: Load) -> None:
    exact, coarse = load("Llama"), load("Llama", dtype="int8")
    sessions = [model.backbone.open(64) for model in (exact, coarse)]
    for session, model in zip(sessions, (exact, coarse), strict=True):
        session.prefill(model.rows(IDS))
    logits, rough = (session.logits() for session in sessions)
    assert (rough - logits).norm() < INT8_ERROR * logits.norm()


def test_int8_gives_a_row_nearly_the_same_beside_any_neighbours(load: Load) -> None:
    model = load("Llama", dtype="int8")
    together, alone = model.backbone.open(64), model.backbone.open(64)
    together.prefill(model.rows(IDS))
    for token in IDS:
        alone.decode(token)
    difference = (together.logits() - alone.logits()).norm()
    assert difference < INT8_ERROR * alone.logits().norm()


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_a_full_cache_refuses_in_one_line_and_keeps_what_it_has(kind: str, load: Load) -> None:
    model = load(kind)
    session = model.backbone.open(16)
    session.prefill(model.rows(IDS[:10]))
    before = session.logits().clone()
    with pytest.raises(StageError, match=r"needs 17 rows, the cache holds 16") as caught:
        session.prefill(model.rows(IDS[:7]))
    assert "\n" not in str(caught.value)
    assert session.length == 10
    torch.testing.assert_close(session.logits(), before)


class OneDevice(TorchDispatchMode):
    """Refuses operations whose tensors live on two devices; moving between them is their job."""

    MOVES = ("_to_copy", "copy_")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        devices = {x.device.type for x in tensors if x.dim()}
        assert len(devices) < 2 or func.__name__.split(".")[0] in self.MOVES, f"{func}: {devices}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_no_operation_mixes_devices(dtype: str, folder_of: Callable[..., Path]) -> None:
    """Weights on a pretended accelerator: a tensor left behind on the CPU meets them."""
    folder = folder_of("Qwen2", tie_word_embeddings=False)
    device = torch.device("meta")
    with OneDevice():
        model = load_weights(Checkpoint(folder), language_config(folder), dtype, device)
        backbone = LlamaBackbone(model)
        session, other = backbone.open(64), backbone.open(64)
        projector = random_projector(24, 32).to(device, model.dtype)
        session.prefill(backbone.embed(IDS[:8]))
        session.decode(5)
        session.prefill(projector(torch.zeros(1, 24)))
        session.crop(6)
        backbone.decode_together([session, other], [5, 6])
        whole = model(backbone.embed(IDS[:8])[None])
        block = KvCache(model.dims, 2, 64, model.dtype, device)
        one_each = torch.zeros(2, dtype=torch.long, device=device)
        fixed = fixed_step(model, block)(one_each, one_each)
        logits = nucleus(penalise(session.logits(), [3, 4], 1.1), 0.9)
    assert logits.device == whole.device == fixed.device == device
    assert logits.shape == (backbone.n_vocabulary,)


def test_the_device_check_can_fail() -> None:
    with OneDevice(), pytest.raises(AssertionError, match="meta"):
        torch.zeros(3) + torch.zeros(3, device="meta")
