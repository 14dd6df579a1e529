"""Every tensor of the hot path is where the weights are; shown on the meta device, without a GPU.

Meta tensors have a device and a shape but no numbers. `Strict` refuses an operation on tensors of
two devices, as a GPU would, and notes what is computed on the host. Reading a number makes a GPU
finish all its work first: the reads that there are get made-up answers here, and are counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_whisper import committed, melody, pieces
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from textpro_stream.config import WhisperOptions
from textpro_stream.whisper import WhisperPro
from textpro_stream.whisper.decoder import DecoderState
from textpro_stream.whisper.encoder import EncoderState
from textpro_stream.whisper.mel import MelStream, normalise

META = torch.device("meta")
CHOICE = 5  # numbers that a decoder pass reads per token
TRANSFERS = {"aten._to_copy.default", "aten.copy_.default"}


class Strict(TorchDispatchMode):
    """One device per operation, but for transfers; notes the operations of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.on_host: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        given = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        homes = {t.device.type for t in given if t.ndim}
        assert len(homes) < 2 or str(func) in TRANSFERS, f"{func} on {homes}"
        result = func(*args, **(kwargs or {}))
        made = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if any(t.device.type == "cpu" for t in made):
            self.on_host[str(func)] += 1
        return result


@pytest.fixture(scope="module")
def model(random_folder: Path) -> WhisperPro:
    return WhisperPro.load(random_folder, WhisperOptions(dtype="float16"), META)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Who reads numbers, and how often. A decoder pass reads ever new words, further along."""
    seen: Counter[str] = Counter()

    def tolist(tensor: Tensor) -> list[Any]:
        seen[sys._getframe(1).f_code.co_qualname] += 1
        if tensor.ndim == 2 and tensor.shape[1] == CHOICE:
            at, n = seen.total(), len(tensor)
            end = -9.0 if at % 8 else 0.0  # or it would talk on for a whole window
            return [[end, -0.1, -9.0, 10.0 * i, 270.0 + (at + i) % 30] for i in range(n)]
        return [False] * tensor.numel()

    def number(tensor: Tensor) -> float:
        seen[sys._getframe(1).f_code.co_qualname] += 1
        return 0.0

    monkeypatch.setattr(Tensor, "tolist", tolist)
    monkeypatch.setattr(Tensor, "__float__", number)
    monkeypatch.setattr(Tensor, "item", number)
    return seen


def test_two_devices_are_refused() -> None:
    there, here = torch.zeros(2, 2, device=META), torch.zeros(2, 2)
    with Strict(), pytest.raises(AssertionError, match=r"aten\.mm"):
        there @ here


def test_weights_and_tables_are_on_the_device(model: WhisperPro) -> None:
    w = model.weights
    flat = [w.embedding, w.encoder_positions, w.decoder_positions, *w.conv1, *w.encoder_norm]
    assert {t.device for t in (*flat, model.filters)} == {META}
    assert {t.dtype for t in flat} == {torch.float16}


def test_mel_is_computed_where_its_filters_are(model: WhisperPro) -> None:
    with Strict():
        frames = MelStream(model.filters).push(melody(1, 0))
        assert frames.device == META
        assert normalise(frames, 0.0).device == META


def test_an_encoder_step_stays_on_the_device(model: WhisperPro) -> None:
    with Strict() as strict:
        state = EncoderState(model.weights)
        mel = torch.zeros(200, 80, device=META)
        for first in (0, 32):
            found = state.step(state.stem(mel, first, 48), 32)
            assert (found.device, found.dtype) == (META, torch.float16)
    assert not strict.on_host


def test_a_decoder_pass_reads_once_and_brings_only_its_tokens(
    model: WhisperPro, reads: Counter[str]
) -> None:
    decoder = DecoderState(model.weights, model.vocabulary, tokens=model.tokens)
    with Strict() as strict:
        decoder.hear(torch.zeros(50, 64, device=META, dtype=torch.float16), 0)
        choices, states = decoder.run([*model.tokens.prompt, 270, 271], 0, 3, first=0)
    assert (len(choices), states.device, states.dtype) == (3, META, torch.float32)
    assert reads == {"DecoderState.run": 1}
    assert not strict.on_host


def test_a_recognizer_mixes_no_devices(model: WhisperPro, reads: Counter[str]) -> None:
    recognizer = model.open()
    transcripts = []
    with Strict():
        for chunk in pieces(melody(2.6, 0), [16_000]):
            transcripts += recognizer.push(chunk)
        recognizer.preview()
        transcripts += recognizer.finish()
    spans = committed(transcripts)
    assert spans
    assert {span.states.device for span in spans} == {META}
    assert set(reads) == {"DecoderState.run", "Recognizer._look"}  # nobody else makes it wait
