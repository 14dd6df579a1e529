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
from textpro_stream.whisper.blocks import Blocks, WholeText
from textpro_stream.whisper.cache import DecoderFixed, EncoderFixed, WhisperCache
from textpro_stream.whisper.decoding import N_FIGURES, Decode, Encode, encode
from textpro_stream.whisper.mel import MelStream, normalise

META = torch.device("meta")
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

    def cpu(tensor: Tensor) -> Tensor:
        if tensor.device.type == "cpu":
            return tensor
        seen[sys._getframe(1).f_code.co_qualname] += 1
        at, answer = seen.total(), torch.zeros(tensor.shape)
        end = -9.0 if at % 8 else 0.0  # or it would talk on for a whole window
        for i, row in enumerate(answer):
            figures = [end, -0.1, -9.0, 10.0 * i, 270.0 + (at + i) % 30, *[-9.0] * 4]
            row[:N_FIGURES] = torch.tensor(figures)
        return answer

    def number(tensor: Tensor) -> float:
        seen[sys._getframe(1).f_code.co_qualname] += 1
        return 0.0

    def pending(tensor: Tensor, device: Any, *args: Any, **kwargs: Any) -> Tensor:
        if str(device) == "cpu" and tensor.device == META:
            assert kwargs["non_blocking"], "waits for the device"
            return torch.zeros(tensor.shape)
        return to(tensor, device, *args, **kwargs)

    to = Tensor.to
    monkeypatch.setattr(Tensor, "cpu", cpu)
    monkeypatch.setattr(Tensor, "to", pending)
    monkeypatch.setattr(Tensor, "__float__", number)
    monkeypatch.setattr(Tensor, "item", number)
    return seen


def test_two_devices_are_refused() -> None:
    there, here = torch.zeros(2, 2, device=META), torch.zeros(2, 2)
    with Strict(), pytest.raises(AssertionError, match=r"aten\.mm"):
        there @ here


def test_weights_and_tables_are_on_the_device(model: WhisperPro) -> None:
    tensors = [*model.model.parameters(), *model.model.buffers(), model.filters]
    assert {t.device for t in tensors} == {META}
    assert {t.dtype for t in model.model.parameters()} == {torch.float16}


def test_mel_is_computed_where_its_filters_are(model: WhisperPro) -> None:
    with Strict():
        frames = MelStream(model.filters).push(melody(1, 0))
        assert frames.device == META
        assert normalise(frames, frames.max()).device == META


@pytest.mark.parametrize("n_slots", [1, 3])
def test_encoder_steps_stay_on_the_device(model: WhisperPro, n_slots: int) -> None:
    slots = [model.pool.take() for _ in range(n_slots)]
    mel = torch.zeros(200, 80, device=META)
    with Strict() as strict:
        for first in (0, 32):
            states = encode(model.model, [Encode(slot, mel, first, 48) for slot in slots])
            assert (states.device, states.dtype) == (META, torch.float16)
    assert set(strict.on_host) <= {"aten.lift_fresh.default"}  # positions, on their way there


def test_a_decoder_pass_reads_once_and_brings_only_its_tokens(
    model: WhisperPro, reads: Counter[str]
) -> None:
    step = Decode(model.pool.take(), [*model.tokens.prompt, 270, 271], 0, 50, 3, first=0)
    with Strict():
        choices, states = model.decoder.run(step)
    assert (len(choices), states.device.type, states.dtype) == (3, "cpu", torch.float32)
    assert reads == {"GreedyDecoder.run": 1}


def test_a_recognizer_mixes_no_devices_and_reads_choices_only(
    model: WhisperPro, reads: Counter[str]
) -> None:
    recognizer = model.open()
    transcripts = []
    with Strict():
        for chunk in pieces(melody(2.6, 0), [16_000]):
            transcripts += recognizer.push(chunk)
        recognizer.preview()
        transcripts += recognizer.finish()
    spans = committed(transcripts)
    assert spans
    assert {span.states.device.type for span in spans} == {"cpu"}  # they travel in events
    passes = recognizer.work.decoder_passes
    # The one more is the preview's: what was heard at the edge, once for each pause.
    assert reads == {"GreedyDecoder.run": passes, "_ending": 1}


def test_steps_of_fixed_shapes_touch_no_number_of_the_host(model: WhisperPro) -> None:
    whisper, n = model.model, 3
    cache = WhisperCache(whisper.dims, n, whisper.dtype, META)
    rows = torch.zeros(n, 48, 64, device=META, dtype=torch.float16)
    numbers = torch.zeros(n, dtype=torch.long, device=META)
    with Strict() as strict:
        whisper.encoder(rows, EncoderFixed(cache, numbers, numbers + 48, 48))
        view = DecoderFixed(cache, numbers, numbers + 48)
        assert whisper.decoder(numbers[:, None], view).states.shape == (n, 1, 64)
    assert not strict.on_host


def test_training_stays_on_the_device(model: WhisperPro) -> None:
    whisper = model.model
    blocks = Blocks([(0, 30), (40, 10), (32, 16)], META)
    with Strict() as strict:
        rows = torch.zeros(2, 98, 64, device=META, dtype=torch.float16)
        states = whisper.encoder(blocks.columns(rows), blocks).states
        heard = blocks.seen_by(torch.zeros(5, dtype=torch.long, device=META))
        view = WholeText(5, whisper.decoder.cross_rows(states), heard)
        ids = torch.zeros(2, 5, dtype=torch.long, device=META)
        assert whisper.decoder(ids, view).attention.shape == (2, 2, 5, states.shape[1])
    assert not strict.on_host
