"""Any other causal LM of transformers, behind the same session.

Slower to load and per step than our own forward, and equal in behaviour. Only models whose cache
can be cropped row by row: state-space and hybrid ones cannot forget.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from textpro_stream.errors import WeightsError
from textpro_stream.llm.session import check_room


class TransformersModel:
    """Weights under `transformers`, shared by all conversations.

    Raises:
        WeightsError: not a causal LM that transformers knows, or one that cannot forget rows.
    """

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar

        # The terminal belongs to whoever started us.
        disable_progress_bar()  # type: ignore[no-untyped-call]  # not annotated
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise WeightsError(f"{folder}: transformers cannot load it ({reason})") from error
        if getattr(model, "_is_stateful", False):
            raise WeightsError(
                f"{folder}: {type(model).__name__} keeps a state that cannot be cropped;"
                " choose a model with attention only",
                folder=folder,
            )
        self._model = model.to(device).eval().requires_grad_(False)
        self.dtype, self.device = dtype, device
        config = self._model.config.get_text_config()
        self.d_model: int = config.hidden_size
        self.n_vocabulary: int = config.vocab_size
        self.context: int = config.max_position_embeddings

    def embed(self, ids: list[int]) -> Tensor:
        """Rows (n, d_model) of token ids."""
        index = torch.tensor(ids, dtype=torch.long).to(self.device, non_blocking=True)
        rows: Tensor = self._model.get_input_embeddings()(index)
        return rows

    def open(self, capacity: int) -> TransformersSession:
        """A fresh cache for one conversation."""
        return TransformersSession(self, capacity)

    def decode_together(
        self, sessions: Sequence[TransformersSession], tokens: Sequence[int]
    ) -> None:
        """Append one token to each session, one after the other: their caches do not batch."""
        for session in sessions:
            check_room(session.length, 1, session.capacity)
        for session, token in zip(sessions, tokens, strict=True):
            session.decode(token)

    def forward(self, rows: Tensor, cache: object) -> Tensor:
        """Append rows (n, d_model) to `cache`; logits (n, n_vocabulary)."""
        logits: Tensor = self._model(
            inputs_embeds=rows[None], past_key_values=cache, use_cache=True
        ).logits
        return logits[0]


class TransformersSession:
    """`contracts.Session` over a `DynamicCache`."""

    def __init__(self, model: TransformersModel, capacity: int) -> None:
        from transformers import DynamicCache

        self.capacity = capacity
        self._model = model
        self._cache = DynamicCache()  # without a config: full layers, which can be cropped
        self._rows: list[Tensor] = []  # (d_model,) each: the last is run again after a crop
        self._last: Tensor | None = None  # logits after the last row, where known

    @property
    def length(self) -> int:
        """Rows held."""
        return len(self._rows)

    def crop(self, length: int) -> None:
        """Keep the first `length` rows."""
        assert 0 <= length <= self.length, f"crop to {length} of {self.length}"
        if length < self.length:
            self._cache.crop(length - self.length)  # negative: how many to forget
            del self._rows[length:]
            self._last = None

    def prefill(self, rows: Tensor) -> None:
        """Append rows (n, d_model).

        Raises:
            StageError: they do not fit; nothing was appended.
        """
        check_room(self.length, len(rows), self.capacity)
        if len(rows):
            rows = rows.to(self._model.dtype)
            self._last = self._model.forward(rows, self._cache)[-1].float()
            self._rows += rows.unbind(0)

    def decode(self, token: int) -> None:
        """Append one token's row."""
        self.prefill(self._model.embed([token]))

    def logits(self) -> Tensor:
        """Next-token logits after the last row, float32, shape (n_vocabulary,)."""
        assert self._rows, "no row has been prefilled"
        if self._last is None:  # cropped since
            self._cache.crop(-1)
            self._last = self._model.forward(self._rows[-1][None], self._cache)[-1].float()
        return self._last
