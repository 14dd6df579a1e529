from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from textpro_stream.contracts import Unobserved
from textpro_stream.llm import LanguageModel
from textpro_stream.llm.cache import Cache, decode_together


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_several_decode_together_as_each_alone(
    kind: str, load: Callable[..., LanguageModel]
) -> None:
    model = load(kind)
    together, alone = ([Cache(model, 32, Unobserved()) for _ in range(3)] for _ in range(2))
    for n, *caches in zip((3, 7, 5), together, alone, strict=True):
        for cache in caches:
            cache.follow(list(range(20, 20 + n)))
    together[1].free()  # what was given back is built anew
    decode_together(together, [40, 41, 42])
    for one, other, token in zip(together, alone, (40, 41, 42), strict=True):
        other.decode(token)
        assert one.rows == one.held == other.rows
        torch.testing.assert_close(one.logits(), other.logits(), atol=2e-4, rtol=1e-4)
