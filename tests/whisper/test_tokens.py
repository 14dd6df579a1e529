from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tiny_whisper import byte_letters, edit_json, random_model, save, tokenizer
from tokenizers import Tokenizer

from textpro_stream.errors import WeightsError
from textpro_stream.whisper.tokens import Tokens

LETTERS = byte_letters()


@pytest.fixture(scope="module")
def table() -> Tokenizer:
    return tokenizer()


@pytest.fixture(scope="module")
def tokens(random_folder: Path, table: Tokenizer) -> Tokens:
    return Tokens(random_folder, table.get_vocab_size())


def spell(table: Tokenizer, content: str | bytes) -> list[int]:
    """Ids of single bytes."""
    content = content.encode() if isinstance(content, str) else content
    return [table.token_to_id(LETTERS[byte]) for byte in content]


def test_every_byte_has_an_id(tokens: Tokens, table: Tokenizer) -> None:
    found = [tokens.bytes_of(token) for token in spell(table, bytes(range(256)))]
    assert found == [bytes([byte]) for byte in range(256)]


@given(text=st.text(max_size=20))
@example("naïve 東京 👩‍👩‍👧 \n\x00")
def test_ids_join_to_text(tokens: Tokens, table: Tokenizer, text: str) -> None:
    ids = spell(table, text)
    assert tokens.text(ids) == text
    assert b"".join(map(tokens.bytes_of, ids)) == text.encode()


def test_words_and_endings_join_without_separators(tokens: Tokens, table: Tokenizer) -> None:
    ids = [table.token_to_id(piece) for piece in ("Ġthis", "Ġis", "Ġsaid", ",", "Ġall", "ing", ".")]
    assert tokens.text(ids) == " this is said, alling."
    assert tokens.text([]) == ""


def test_a_broken_character_is_shown_as_one(tokens: Tokens, table: Tokenizer) -> None:
    assert tokens.text(spell(table, "é")[:1]) == "\ufffd"


@given(text=st.text(max_size=20))
@example("aé東👩")
def test_characters_are_kept_whole(tokens: Tokens, table: Tokenizer, text: str) -> None:
    sizes = tokens.whole_characters(spell(table, text))
    assert sizes == [len(character.encode()) for character in text]


@given(content=st.binary(max_size=30))
@example(b"\xe6\x9d")  # cut short
@example(b"\xf0\x9f\x91a")  # broken off
@example(b"\x80\x80\x80\x80\x80")  # never begun
@example(b"\xf5\x80\x80\x80")  # no such character
def test_any_bytes_are_cut_into_short_runs(
    tokens: Tokens, table: Tokenizer, content: bytes
) -> None:
    sizes = tokens.whole_characters(spell(table, content))
    assert sum(sizes) == len(content)
    assert all(1 <= size <= 4 for size in sizes)


def test_pieces_of_several_bytes_are_cut_at_whole_characters(
    tokens: Tokens, table: Tokenizer
) -> None:
    the = table.token_to_id("Ġthe")
    ids = [the, *spell(table, "東"), the, the, *spell(table, "é")]
    assert tokens.whole_characters(ids) == [1, 3, 1, 1, 2]


@pytest.mark.parametrize(
    ("piece", "starts", "mark"),
    [
        ("Ġthe", True, False),
        ("Ġ", True, False),
        ("ing", False, False),
        (",", False, True),
        (".", False, True),
        ("?", False, True),
        ("'", False, True),
        ("Ã", False, False),  # half a character
        ("<|endoftext|>", False, False),
    ],
)
def test_what_a_piece_is(
    tokens: Tokens, table: Tokenizer, piece: str, starts: bool, mark: bool
) -> None:
    token = table.token_to_id(piece)
    assert tokens.starts_word(token) == starts
    assert tokens.is_punctuation(token) == mark


def test_special_ids(tokens: Tokens, table: Tokenizer) -> None:
    names = ("<|startoftranscript|>", "<|notimestamps|>")
    assert tokens.prompt == [table.token_to_id(name) for name in names]
    assert tokens.end == table.token_to_id("<|endoftext|>")
    assert tokens.no_speech == table.token_to_id("<|nospeech|>")


def test_only_words_and_the_end_may_be_said(tokens: Tokens, table: Tokenizer) -> None:
    said = {i for i in range(table.get_vocab_size()) if tokens.suppressed[i] == 0}
    assert tokens.end in said
    assert table.token_to_id("Ġthe") in said
    assert table.token_to_id("<|0.00|>") not in said
    assert not said & set(tokens.prompt)
    assert {table.token_to_id("Ġ"), tokens.end} == set(
        torch.nonzero(tokens.suppressed_first).flatten().tolist()
    )


def test_no_captions_is_the_older_name_of_no_speech(tmp_path: Path, table: Tokenizer) -> None:
    file = tmp_path / "tokenizer.json"
    table.save(str(file))
    file.write_text(file.read_text().replace("<|nospeech|>", "<|nocaptions|>"))
    found = Tokens(tmp_path, table.get_vocab_size())  # and without a generation_config.json
    assert found.no_speech == table.token_to_id("<|nospeech|>")
    assert found.suppressed_first[found.end] == -torch.inf


def test_languages_are_chosen_by_name(multilingual_folder: Path) -> None:
    table = tokenizer(multilingual=True)
    found = Tokens(multilingual_folder, table.get_vocab_size(), language="de")
    assert found.prompt[1] == table.token_to_id("<|de|>")
    with pytest.raises(WeightsError, match=r"<\|tlh\|>"):
        Tokens(multilingual_folder, table.get_vocab_size(), language="tlh")


def test_a_larger_vocabulary_than_the_model_has_is_refused(
    random_folder: Path, table: Tokenizer
) -> None:
    with pytest.raises(WeightsError, match="another model's"):
        Tokens(random_folder, table.get_vocab_size() - 1)


def test_a_foreign_generation_config_is_refused(tmp_path: Path, table: Tokenizer) -> None:
    folder = save(random_model(), tmp_path)
    edit_json(folder / "generation_config.json", suppress_tokens=[50_000])
    with pytest.raises(WeightsError, match="suppresses token 50000"):
        Tokens(folder, table.get_vocab_size())
