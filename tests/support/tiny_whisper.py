"""Small Whispers in real Hugging Face folders, and sounds for them to hear.

`random_model` is noise in every weight: good for arithmetic. `listening_model` is built by hand to
behave as a recogniser does: each token looks a fifth of a second further along the audio, what it
says depends on what sounds there, and silence makes it end. So its words are committed, its times
grow, its segments roll, and a state that was computed over the wrong audio shows in its words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, TokenSpan, Transcript

COMMON = (
    "the a of and to in that it is was he for as with his on be at by had not but from have are"
    " you this all so one they her she were their no there been who what when if out up said will"
)
WORDS = COMMON.split()
PIECES = ["ing", "ed", "er", "s", "ly", ",", ".", "?"]  # they go on with a word, or close it
WIDTH = 64
HALF = 32  # of the width: where a listening model keeps places; sounds are in the other half
PACE = 10  # positions from one token to the next
SILENT = 12  # positions behind the last sound from which on a listening model ends


def byte_letters() -> list[str]:
    """GPT-2's printable stand-ins for bytes 0 .. 255."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(spare)) for byte in range(256)]


def tokenizer(*, multilingual: bool = False) -> Tokenizer:
    """All bytes, some words and word endings, and Whisper's special tokens in its order."""
    table = {letter: i for i, letter in enumerate(sorted(byte_letters()))}
    for piece in [*("Ġ" + word for word in WORDS), *PIECES]:
        table.setdefault(piece, len(table))
    built = Tokenizer(models.BPE(table, []))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    names = ["<|endoftext|>", "<|startoftranscript|>"]
    names += ["<|en|>", "<|de|>"] if multilingual else []
    names += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>"]
    names += ["<|nospeech|>", "<|notimestamps|>"]
    names += [f"<|{0.02 * i:.2f}|>" for i in range(1501)]
    built.add_special_tokens([AddedToken(name, special=True) for name in names])
    return built


def _config(built: Tokenizer) -> WhisperConfig:
    end = built.token_to_id("<|endoftext|>")
    return WhisperConfig(
        vocab_size=built.get_vocab_size(),
        d_model=WIDTH,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=2 * WIDTH,
        decoder_ffn_dim=2 * WIDTH,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=built.token_to_id("<|startoftranscript|>"),
        suppress_tokens=None,  # they belong into the generation config
        begin_suppress_tokens=None,
        init_std=0.15,  # so that sounds and tokens matter more than in a fresh model
    )


def _generation(built: Tokenizer, *, multilingual: bool) -> GenerationConfig:
    """As the files of OpenAI's models have it. Single letters are never said."""
    end, start = built.token_to_id("<|endoftext|>"), built.token_to_id("<|startoftranscript|>")
    table = built.get_vocab(with_added_tokens=False)
    said = {"Ġ" + word for word in WORDS} | set(PIECES)
    unsaid = sorted(i for piece, i in table.items() if piece not in said)
    config = GenerationConfig(
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        no_timestamps_token_id=built.token_to_id("<|notimestamps|>"),
        suppress_tokens=[*unsaid, *range(start, built.token_to_id("<|notimestamps|>"))],
        begin_suppress_tokens=[table["Ġ"], end],
        max_length=448,
        is_multilingual=multilingual,
        alignment_heads=[[0, 0], [1, 0]],
    )
    if multilingual:
        config.lang_to_id = {f"<|{k}|>": built.token_to_id(f"<|{k}|>") for k in ("en", "de")}
        names = ("transcribe", "translate")
        config.task_to_id = {k: built.token_to_id(f"<|{k}|>") for k in names}
    return config


def random_model(*, multilingual: bool = False, seed: int = 0) -> WhisperForConditionalGeneration:
    """Noise in every weight, biases and norms included."""
    built = tokenizer(multilingual=multilingual)
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(_config(built)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "layer_norm" in name:
                parameter += 0.2 * torch.randn_like(parameter)
    model.generation_config = _generation(built, multilingual=multilingual)
    return model


def listening_model(seed: int = 7) -> WhisperForConditionalGeneration:
    """A random model bent into a recogniser of sorts, English only; see the module."""
    model = random_model(seed=seed)
    with torch.no_grad():
        _part_places_from_sounds(model)
        _look_along(model)
        _say_clearly(model)
        _end_in_silence(model)
    return model


def _places(n: int, step: int) -> Tensor:
    """Sines and cosines of place 0, step, 2 step …, shape (n, HALF): alike only where close."""
    rates = 2 * np.pi / np.geomspace(40, 3000, HALF // 2)  # radians per position
    angles = torch.arange(n)[:, None] * step * torch.tensor(rates, dtype=torch.float32)
    return torch.cat([angles.sin(), angles.cos()], 1)


def _part_places_from_sounds(model: WhisperForConditionalGeneration) -> None:
    """Give each its half of the width, and let nobody carry one over into the other."""
    encoder, decoder = model.model.encoder, model.model.decoder
    for side, step in ((encoder, 1), (decoder, PACE)):
        table = side.embed_positions.weight
        table.zero_()
        table[:, :HALF] = 2.0 * _places(len(table), step)
    layers = [*encoder.layers, *decoder.layers]
    writers = [part for layer in layers for part in (layer.self_attn.out_proj, layer.fc2)]
    writers += [encoder.conv2, *(layer.encoder_attn.out_proj for layer in decoder.layers)]
    for writer in writers:
        writer.weight[:HALF] = 0
        writer.bias[:HALF] = 0
    for layer in encoder.layers:
        layer.self_attn.out_proj.weight *= 0.3  # what sounds now counts more than all the rest
    for layer in layers:
        for reader in (layer.self_attn.v_proj, layer.fc1):
            reader.weight[:, :HALF] = 0
    said = decoder.embed_tokens.weight
    said[:, :HALF] = 0
    said[model.generation_config.suppress_tokens] *= 0.1  # they take no probability away
    said[model.config.eos_token_id :] *= 0.1


def _look_along(model: WhisperForConditionalGeneration) -> None:
    """Let cross-attention query a token's place and bring back the sound that is there."""
    encoder, decoder = model.model.encoder, model.model.decoder
    for norm in (encoder.layer_norm, *(x.encoder_attn_layer_norm for x in decoder.layers)):
        norm.weight.fill_(1)
        norm.bias.zero_()
    heard = encoder(features(melody(30, 99))).last_hidden_state[0]
    for layer in decoder.layers:
        cross = layer.encoder_attn
        for projection, gain in ((cross.q_proj, 4.0), (cross.k_proj, 2.0)):
            projection.weight.zero_()
            for head in (slice(0, HALF), slice(HALF, WIDTH)):
                projection.weight[head, :HALF] = gain * torch.eye(HALF)
        cross.q_proj.bias.zero_()
        cross.v_proj.weight[:, :HALF] = 0
        cross.v_proj.bias -= cross.v_proj(heard).mean(0)  # what all sounds share says nothing
        cross.out_proj.weight *= 4.0 / cross.v_proj(heard).std()


def _say_clearly(model: WhisperForConditionalGeneration) -> None:
    """Let the sound outweigh the last token, and the best word the others."""
    decoder = model.model.decoder
    for layer in decoder.layers:
        for part in (layer.self_attn.out_proj, layer.fc2):
            part.weight *= 0.3
            part.bias *= 0.3
    decoder.layer_norm.weight.fill_(8.0)
    decoder.layer_norm.bias.zero_()


def _end_in_silence(model: WhisperForConditionalGeneration) -> None:
    """Fit end-of-text by least squares: above all words where silence is looked at, else below.

    No-speech is fitted likewise, a little higher, so that a clip of silence is known for one.
    """
    built = tokenizer()
    rows = model.model.decoder.embed_tokens.weight
    words = torch.tensor([built.token_to_id("Ġ" + word) for word in WORDS])
    prompt = [model.config.decoder_start_token_id, built.token_to_id("<|notimestamps|>")]
    nothing = torch.full((1, 80, 3000), -1.0)  # silence from the start, as the recognizer scales it
    clips = [(features(melody(n, n)), n) for n in range(3, 21, 2)] + [(nothing, 0)]
    states, wanted = [], []
    generator = torch.Generator().manual_seed(0)
    for heard, duration_s in clips:
        said = words[torch.randint(len(words), (100,), generator=generator)]
        ids = torch.cat([torch.tensor(prompt), said])[None]
        state = model.model(heard, decoder_input_ids=ids).last_hidden_state[0].clone()
        state[:, :HALF] = 0
        best = (state @ rows[words].T).amax(1)
        silent = torch.arange(len(state)) * PACE >= 50 * duration_s + SILENT * (duration_s > 0)
        states.append(state)
        wanted.append(torch.where(silent, best + 6, best - 16))
    x, y = torch.cat(states), torch.cat(wanted)
    fitted = torch.linalg.solve(x.T @ x + torch.eye(WIDTH), x.T @ y)
    rows[model.config.eos_token_id] = fitted
    rows[built.token_to_id("<|nospeech|>")] = 1.2 * fitted


def save(
    model: WhisperForConditionalGeneration, folder: Path, *, multilingual: bool = False
) -> Path:
    """Write a model folder as the hub has it."""
    model.save_pretrained(folder)
    tokenizer(multilingual=multilingual).save(str(folder / "tokenizer.json"))
    return folder


def edit_json(path: Path, **changes: object) -> None:
    """Change keys of a file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def features(audio: NDArray[np.float32]) -> Tensor:
    """What transformers gives its Whisper: (1, 80, 3000)."""
    extract = WhisperFeatureExtractor()
    found: Tensor = extract(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
    return found


def melody(duration_s: float, seed: int) -> NDArray[np.float32]:
    """Notes of an eighth to three eighths of a second, one after the other, over faint noise."""
    chance = np.random.default_rng(seed)
    n = round(duration_s * SAMPLE_RATE)
    audio = 1e-3 * chance.standard_normal(n)
    at = 0
    while at < n:
        length = int(chance.integers(2000, 6000))
        time = np.arange(min(length, n - at)) / SAMPLE_RATE
        pitch = chance.uniform(150, 3500)
        note = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in (1, 2, 3))
        audio[at : at + length] += chance.uniform(0.05, 0.3) * note
        at += length
    return audio.astype(np.float32)


def silence(duration_s: float) -> NDArray[np.float32]:
    """Digital silence."""
    return np.zeros(round(duration_s * SAMPLE_RATE), np.float32)


def pieces(
    audio: NDArray[np.float32], sizes: Sequence[int] = (3200,), start: int = 0
) -> Iterable[AudioChunk]:
    """The audio cut into chunks of these sizes, again and again."""
    at = count = 0
    while at < len(audio):
        part = audio[at : at + sizes[count % len(sizes)]]
        yield AudioChunk(part, start + at)
        at += len(part)
        count += 1


def committed(transcripts: Iterable[Transcript]) -> list[TokenSpan]:
    """All that was committed."""
    return [span for transcript in transcripts for span in transcript.committed]


def ids_of(spans: Iterable[TokenSpan]) -> list[int]:
    """Their ids, one after the other."""
    return [token for span in spans for token in span.ids]


def text_of(spans: Iterable[TokenSpan]) -> str:
    """Their text."""
    return "".join(span.text for span in spans)
