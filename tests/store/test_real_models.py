"""The default models as they are fetched: what they say, and that their vocabularies are whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from textpro_stream import store

pytestmark = pytest.mark.weights

CLIPS = Path(__file__).parents[3] / "shared" / "data" / "dev"  # development speech, where it is

TRICKY = [
    "",
    " ",
    "\n\n  two  spaces\tand a tab ",
    "I'm sure you're right; we'd've said so.",
    "3.14159 1,000,000 2026-11-23",
    "naïve façade – “quoted” … ½ €",  # noqa: RUF001  # look-alike letters are the point
    "東京 привет שלום 👩‍👩‍👧 ♪",
    "\x00\x7f\u00ad\ufeff",
    "snake_case camelCase <tag> {json: [1]}",
]


@pytest.fixture(scope="module")
def whisper() -> Path:
    return store.resolve("tiny.en", "whisper")


@pytest.fixture(scope="module")
def llm() -> Path:
    return store.resolve("smollm2-135m", "llm")


@pytest.mark.parametrize("name", store.defaults())
def test_every_byte_is_as_it_was_made(name: str) -> None:
    store.pull(name)
    assert store.verify(name) == []


@pytest.mark.skipif(not CLIPS.is_dir(), reason="want development speech that is not public")
@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ("ls-367-130732-0000", "lobsters and lobsters"),
        ("ls-367-130732-0001", "when is a lobster not a lobster when it is a crayfish"),
    ],
)
def test_tiny_en_hears_what_was_said(whisper: Path, clip: str, words: str) -> None:
    processor = WhisperProcessor.from_pretrained(whisper)
    model = WhisperForConditionalGeneration.from_pretrained(whisper, dtype=torch.float32)
    audio, rate = soundfile.read(CLIPS / "audio" / f"{clip}.flac", dtype="float32")
    inputs = processor(audio, sampling_rate=rate, return_tensors="pt")
    ids = model.generate(inputs.input_features, max_new_tokens=40)
    (text,) = processor.batch_decode(ids, skip_special_tokens=True)
    assert "".join(c for c in text.lower() if c.isalpha() or c == " ").split() == words.split()


def test_every_whisper_token_comes_out_of_its_own_bytes(whisper: Path) -> None:
    tokenizer = Tokenizer.from_file(str(whisper / "tokenizer.json"))
    for token, rank in tokenizer.get_vocab(with_added_tokens=False).items():
        assert [piece.id for piece in tokenizer.model.tokenize(token)] == [rank]


def test_the_suppressed_tokens_are_the_signs_nobody_speaks(whisper: Path) -> None:
    tokenizer = Tokenizer.from_file(str(whisper / "tokenizer.json"))
    config = json.loads((whisper / "generation_config.json").read_text())
    suppressed = set(config["suppress_tokens"])
    spoken = tokenizer.encode(" Well, it's 5 o'clock!", add_special_tokens=False).ids
    assert not suppressed & set(spoken)
    for sign in ("(", " [", "♪♪", " -", "<<", "<|nospeech|>", "<|transcribe|>", "<|startofprev|>"):
        assert tokenizer.encode(sign, add_special_tokens=False).ids[0] in suppressed


@pytest.mark.parametrize("text", TRICKY)
def test_text_survives_both_tokenizers(whisper: Path, llm: Path, text: str) -> None:
    for folder in (whisper, llm):
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_smollm2_knows_a_capital(llm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llm)
    model = AutoModelForCausalLM.from_pretrained(llm, dtype=torch.float32)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = model.generate(**inputs, max_new_tokens=20, do_sample=False)
    reply = tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert reply == "The capital of France is Paris."


def test_smollm2_computes_what_the_gguf_file_holds(llm: Path) -> None:
    # The best five next tokens that transformers' own GGUF loader gives, in float32. Storing the
    # weights as float16 moves a logit by at most 0.03 of 27.
    expected = {7042: 17.371, 260: 14.889, 4528: 13.245, 2250: 13.009, 1315: 12.952}
    tokenizer = AutoTokenizer.from_pretrained(llm)
    model = AutoModelForCausalLM.from_pretrained(llm, dtype=torch.float32)
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    with torch.no_grad():
        best = model(**inputs).logits[0, -1].topk(5)
    assert best.indices.tolist() == list(expected)
    assert best.values.tolist() == pytest.approx(list(expected.values()), abs=0.05)


def test_smollm2_splits_numbers_into_digits(llm: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llm)
    assert tokenizer.tokenize("in 1984") == ["in", "Ġ", "1", "9", "8", "4"]
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == [
        "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    ]  # fmt: skip


def test_whisper_ranks_are_gpt2s(whisper: Path) -> None:
    tokenizer = Tokenizer.from_file(str(whisper / "tokenizer.json"))
    assert tokenizer.encode(" Hello world", add_special_tokens=False).ids == [18435, 995]
    assert tokenizer.get_vocab_size() == 51_864
    names = {"<|endoftext|>": 50_256, "<|notimestamps|>": 50_362, "<|30.00|>": 51_863}
    assert {name: tokenizer.token_to_id(name) for name in names} == names
