"""OpenAI's Whisper checkpoint -> a folder in Hugging Face layout.

The checkpoint is one pickle of `dims` and `model_state_dict`, read with `weights_only`; the
vocabulary is a table of byte sequences and ranks (tiktoken). Written out: `config.json`,
`generation_config.json`, `preprocessor_config.json`, `tokenizer.json`, `tokenizer_config.json`,
`model.safetensors` in the checkpoint's own precision. Only the English-only models are known
here: their vocabulary is GPT-2's, and their alignment heads are listed below.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textpro_stream.errors import WeightsError
from textpro_stream.store.files import write_json

if TYPE_CHECKING:
    from torch import Tensor

# (layer, head) pairs whose cross-attention follows the audio: OpenAI's published masks, unpacked.
ALIGNMENT_HEADS = {
    "tiny.en": [(1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)],
}

N_TIMESTAMPS = 1501  # <|0.00|> to <|30.00|> in steps of 20 ms

_NAMES = [  # OpenAI's names -> Hugging Face's, applied in this order
    (r"\.blocks\.", ".layers."),
    (r"\.cross_attn_ln\.", ".encoder_attn_layer_norm."),
    (r"\.attn_ln\.", ".self_attn_layer_norm."),
    (r"\.mlp_ln\.", ".final_layer_norm."),
    (r"\.cross_attn\.", ".encoder_attn."),
    (r"\.attn\.", ".self_attn."),
    (r"\.query\.", ".q_proj."),
    (r"\.key\.", ".k_proj."),
    (r"\.value\.", ".v_proj."),
    (r"\.out\.", ".out_proj."),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.2\.", ".fc2."),
    (r"\.ln_post\.", ".layer_norm."),
    (r"\.ln\.", ".layer_norm."),
    (r"\.token_embedding\.", ".embed_tokens."),
    (r"\.positional_embedding$", ".embed_positions.weight"),
]


def convert_whisper(checkpoint: Path, ranks: Path, folder: Path, *, name: str) -> None:
    """Write the Hugging Face layout of an English-only Whisper into `folder`.

    Args:
        checkpoint: OpenAI's `.pt` file.
        ranks: the `gpt2.tiktoken` table that belongs to it.
        folder: an existing empty folder.
        name: the model's name, the key of `ALIGNMENT_HEADS`.

    Raises:
        WeightsError: if the checkpoint is not one of OpenAI's, or does not fit the table.
    """
    from safetensors.torch import save_file

    dims, state = _read_checkpoint(checkpoint)
    vocabulary = read_ranks(ranks)
    specials = special_tokens()
    expected = len(vocabulary) + len(specials) + N_TIMESTAMPS
    if dims["n_vocab"] != expected:
        raise WeightsError(
            f"{checkpoint.name}: {dims['n_vocab']} tokens, but {ranks.name} makes {expected};"
            " only the English-only Whisper models are converted here",
            found=dims["n_vocab"],
            expected=expected,
        )
    ids = {token: len(vocabulary) + i for i, token in enumerate(specials)}
    tensors = {hugging_face_name(key): value.contiguous() for key, value in state.items()}
    dtype = str(tensors["model.encoder.conv1.weight"].dtype).removeprefix("torch.")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", _config(dims, ids, dtype))
    write_json(
        folder / "generation_config.json",
        _generation_config(dims, ids, vocabulary[b" "], ALIGNMENT_HEADS.get(name)),
    )
    write_json(folder / "preprocessor_config.json", _preprocessor_config(dims))
    _write_tokenizer(folder, vocabulary, specials)


def hugging_face_name(key: str) -> str:
    """A tensor's name in `WhisperForConditionalGeneration`."""
    for pattern, replacement in _NAMES:
        key = re.sub(pattern, replacement, key)
    return f"model.{key}"


def special_tokens() -> list[str]:
    """The tokens between the vocabulary and the timestamps, in id order."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    languages = [code for code in LANGUAGES if code != "yue"]  # the 100th came with large-v3
    return [
        "<|endoftext|>",
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in languages),
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]


def read_ranks(path: Path) -> dict[bytes, int]:
    """A tiktoken table: one `base64 rank` a line, ranks from 0 without gaps."""
    ranks = {
        base64.b64decode(token): int(rank)
        for token, rank in (line.split() for line in path.read_bytes().splitlines() if line)
    }
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise WeightsError(f"{path.name}: the ranks have gaps; the table is damaged")
    return ranks


def merges_of(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merge list that byte-pair encoding needs, from ranks alone.

    A token of rank r was made by the last merge of its bytes under the merges before r, so running
    those on its bytes leaves exactly the two parts that r joined.
    """
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = _encode_below(token, ranks, rank)
        if len(parts) != 2:
            raise WeightsError(f"rank {rank} is no merge of two tokens; the table is damaged")
        merges.append((parts[0], parts[1]))
    return merges


def _encode_below(token: bytes, ranks: dict[bytes, int], limit: int) -> list[bytes]:
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 1:
        best, at = limit, -1
        for i in range(len(parts) - 1):
            rank = ranks.get(parts[i] + parts[i + 1], limit)
            if rank < best:
                best, at = rank, i
        if at < 0:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte: itself where printable, else from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256)]


def _read_checkpoint(path: Path) -> tuple[dict[str, int], dict[str, Tensor]]:
    import pickle

    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        return dict(loaded["dims"]), dict(loaded["model_state_dict"])
    except (pickle.UnpicklingError, KeyError, TypeError, RuntimeError, EOFError) as error:
        raise WeightsError(
            f"{path.name}: not a Whisper checkpoint of OpenAI's (dims + model_state_dict)"
        ) from error


def _config(dims: dict[str, int], ids: dict[str, int], dtype: str) -> dict[str, Any]:
    end = ids["<|endoftext|>"]
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "dtype": dtype,
        "vocab_size": dims["n_vocab"],
        "num_mel_bins": dims["n_mels"],
        "d_model": dims["n_audio_state"],
        "encoder_layers": dims["n_audio_layer"],
        "encoder_attention_heads": dims["n_audio_head"],
        "encoder_ffn_dim": 4 * dims["n_audio_state"],
        "decoder_layers": dims["n_text_layer"],
        "decoder_attention_heads": dims["n_text_head"],
        "decoder_ffn_dim": 4 * dims["n_text_state"],
        "max_source_positions": dims["n_audio_ctx"],
        "max_target_positions": dims["n_text_ctx"],
        "activation_function": "gelu",
        "is_encoder_decoder": True,
        "scale_embedding": False,
        "tie_word_embeddings": True,
        "use_cache": True,
        "decoder_start_token_id": ids["<|startoftranscript|>"],
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
    }


def _generation_config(
    dims: dict[str, int],
    ids: dict[str, int],
    space: int,
    heads: list[tuple[int, int]] | None,
) -> dict[str, Any]:
    from transformers.models.whisper.configuration_whisper import NON_SPEECH_TOKENS

    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    silent = ("translate", "transcribe", "startoflm", "startofprev", "nospeech")
    first_special = end  # the list's own specials belong to another vocabulary: name them anew
    suppressed = {token for token in NON_SPEECH_TOKENS if token < first_special}
    suppressed |= {start, *(ids[f"<|{name}|>"] for name in silent)}
    config: dict[str, Any] = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": start,
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "is_multilingual": False,
        "max_length": dims["n_text_ctx"],
        "max_initial_timestamp_index": 50,
        "return_timestamps": False,
        "begin_suppress_tokens": [space, end],  # the first token is a word
        "suppress_tokens": sorted(suppressed),
    }
    if heads is not None:
        config["alignment_heads"] = [list(pair) for pair in heads]
    return config


def _preprocessor_config(dims: dict[str, int]) -> dict[str, Any]:
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "feature_size": dims["n_mels"],
        "sampling_rate": 16_000,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "n_samples": 480_000,
        "nb_max_frames": 3_000,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def _write_tokenizer(folder: Path, ranks: dict[bytes, int], specials: list[str]) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    letters = byte_alphabet()

    def spell(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    tokenizer = Tokenizer(
        models.BPE(
            vocab={spell(token): rank for token, rank in ranks.items()},
            merges=[(spell(left), spell(right)) for left, right in merges_of(ranks)],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in specials])
    tokenizer.add_tokens(
        [AddedToken(f"<|{i * 0.02:.2f}|>", normalized=False) for i in range(N_TIMESTAMPS)]
    )
    prefix = ("<|startoftranscript|>", "<|notimestamps|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join((*prefix, "$A", "<|endoftext|>")),
        pair=" ".join((*prefix, "$A", "$B", "<|endoftext|>")),
        special_tokens=[
            (token, tokenizer.token_to_id(token)) for token in (*prefix, "<|endoftext|>")
        ],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "WhisperTokenizer",
            "processor_class": "WhisperProcessor",
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "bos_token": "<|endoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "additional_special_tokens": specials[1:],
            "model_max_length": 1024,
        },
    )
