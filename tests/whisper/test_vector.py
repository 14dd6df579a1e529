"""The vector that prosody reads: what it holds, and that streaming freezes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
from tiny_whisper import committed, edit_json, features, ids_of, melody, pieces
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from textpro_stream.config import WhisperOptions
from textpro_stream.contracts import SAMPLE_RATE, TokenSpan
from textpro_stream.whisper import WhisperPro
from textpro_stream.whisper.cache import Pool
from textpro_stream.whisper.decoding import Decode, Encode, GreedyDecoder, encode
from textpro_stream.whisper.tokens import Tokens
from textpro_stream.whisper.vector import Vector
from textpro_stream.whisper.weights import load_weights

CPU = torch.device("cpu")


def states_of(spans: list[TokenSpan]) -> Tensor:
    return torch.cat([span.states for span in spans if span.states is not None])


@torch.inference_mode()
def test_it_is_the_encoder_where_the_decoder_attends(random_folder: Path) -> None:
    theirs = WhisperForConditionalGeneration.from_pretrained(
        random_folder, attn_implementation="eager"
    )
    theirs.train(False)
    heard = features(melody(30, 4))
    ids = [theirs.config.decoder_start_token_id, 260, 271, 259]
    expected = theirs(
        heard,
        decoder_input_ids=torch.tensor([ids]),
        output_attentions=True,
        output_hidden_states=True,
    )
    heads = theirs.generation_config.to_dict()["alignment_heads"]
    weights = torch.stack([expected.cross_attentions[i][0, j] for i, j in heads]).mean(0)
    pooled = [weights @ expected.encoder_hidden_states[layer][0] for layer in (1, 2)]
    middle = expected.decoder_hidden_states[1][0]

    model = load_weights(random_folder, "float32", CPU)
    slot = Pool(model.dims, model.dtype, CPU, layers=(1,)).take()
    encode(model, [Encode(slot, heard[0].T, 0, 1500)])
    tokens = Tokens(random_folder, model.dims.n_vocabulary)
    decoder = GreedyDecoder(model, tokens, Vector(middle=True, layers=(1,)))
    _, vectors = decoder.run(Decode(slot, ids, 0, 1500, 3))
    torch.testing.assert_close(vectors, torch.cat([middle, pooled[0]], 1)[1:], rtol=1e-3, atol=1e-3)


def test_a_checkpoint_says_which_it_was_trained_with(random_folder: Path, tmp_path: Path) -> None:
    trained = copytree(random_folder, tmp_path / "pro")
    edit_json(trained / "config.json", architectures=["WhisperSpeechCodecEncoder"])
    plain, middle = WhisperOptions(), WhisperOptions(prosody="middle")
    assert WhisperPro.load(random_folder, plain, CPU).vector == Vector(middle=False, layers=(1,))
    assert WhisperPro.load(random_folder, middle, CPU).vector == Vector()
    assert WhisperPro.load(trained, plain, CPU).vector == Vector()


def test_the_words_do_not_depend_on_it(listening_folder: Path) -> None:
    audio = melody(8, 3)
    said = []
    for name in ("pooled", "middle"):
        options = WhisperOptions(block_ms=320, look_ahead_ms=160, prosody=name)
        recognizer = WhisperPro.load(listening_folder, options, CPU).open()
        transcripts = [t for chunk in pieces(audio) for t in recognizer.push(chunk)]
        said.append(ids_of(committed([*transcripts, *recognizer.finish()])))
    assert said[0] == said[1]
    assert said[0]


def test_it_is_of_the_token_s_own_sound(listener: WhisperPro) -> None:
    """Other notes at the end change the vectors of the words there, and not of those before."""
    audio = melody(8, 21)
    other = audio.copy()
    other[6 * SAMPLE_RATE :] = melody(2, 22)
    found = []
    for clip in (audio, other):
        recognizer = listener.open()
        transcripts = [t for chunk in pieces(clip) for t in recognizer.push(chunk)]
        found.append(committed([*transcripts, *recognizer.finish()]))
    early = [[span for span in spans if span.end < 5 * SAMPLE_RATE] for spans in found]
    assert len(early[0]) > 5
    torch.testing.assert_close(states_of(early[0]), states_of(early[1]))
    late = [states_of(spans[-1:]) for spans in found]
    assert not torch.allclose(late[0], late[1])


def test_committed_vectors_are_frozen(listener: WhisperPro) -> None:
    """What is told at a commit is the whole truth: later audio changes nothing of it."""
    recognizer = listener.open()
    told: list[tuple[TokenSpan, Tensor]] = []
    for chunk in pieces(melody(30, 5)):
        for span in committed(recognizer.push(chunk)):
            assert span.states is not None
            told.append((span, span.states.clone()))
    recognizer.finish()
    assert len(told) > 20
    assert all(torch.equal(span.states, before) for span, before in told)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [(1,), (1, 2)])
def test_several_layers_stand_side_by_side(listener: WhisperPro, layers: tuple[int, ...]) -> None:
    dims = listener.model.dims
    assert Vector(middle=False, layers=layers).width(dims) == len(layers) * dims.d_model
    assert replace(Vector(), layers=layers).width(dims) == (1 + len(layers)) * dims.d_model
