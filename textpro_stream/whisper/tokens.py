"""Whisper's vocabulary: special ids, what may be said, and ids back into text.

Text is only ever read from ids here, never made from text, so no tokenizer merges are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from tokenizers import Tokenizer

from textpro_stream.checkpoint import read_json
from textpro_stream.errors import WeightsError

# dashes and closing quotes by number: they look alike in an editor
MARKS = ".,?!"  # that end a sentence or part it
PUNCTUATION = frozenset(".,?!;:-\"')]\u2026\u2013\u2014\u2019\u201d")


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (Radford et al., 2019), inverted."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    spare = (byte for byte in range(256) if byte not in printable)
    table.update({chr(256 + i): byte for i, byte in enumerate(spare)})
    return table


class Tokens:
    """One model's vocabulary. Shared, never written.

    Attributes:
        prompt: ids that open a window without timestamps.
        marks: ids of `MARKS`.
        end, no_speech: ids.
        suppressed: (n_vocabulary,) float32, 0 or -inf: what is never said.
        suppressed_first: the same for the first token of a window.
    """

    def __init__(self, folder: Path, n_vocabulary: int, language: str = "en") -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception
            raise WeightsError(
                f"{folder}/tokenizer.json cannot be read ({error}); download the model again",
                folder=folder,
            ) from None
        if self._tokenizer.get_vocab_size() > n_vocabulary:
            raise WeightsError(
                f"{folder}/tokenizer.json has {self._tokenizer.get_vocab_size()} tokens,"
                f" config.json {n_vocabulary}; one of them is another model's",
                folder=folder,
            )
        path = folder / "generation_config.json"
        config = read_json(path)
        start = self._id("<|startoftranscript|>", folder)
        self.end = self._id("<|endoftext|>", folder)
        silence = ("<|nospeech|>", "<|nocaptions|>")
        found = [i for i in map(self._tokenizer.token_to_id, silence) if i is not None]
        self.no_speech = found[0] if found else self._id(silence[0], folder)
        self.prompt = [start, self._id("<|notimestamps|>", folder)]
        if config.get("is_multilingual", False):
            spoken = self._id(f"<|{language}|>", folder)
            self.prompt[1:1] = [spoken, self._id("<|transcribe|>", folder)]
        self.marks = [self._id(mark, folder) for mark in MARKS]
        # Specials and timestamps all lie behind the text; only the end may be said.
        first_special = min(start, self.end)
        self.suppressed = torch.zeros(n_vocabulary)
        self.suppressed[first_special:] = -torch.inf
        self.suppressed[self.end] = 0.0
        self.suppressed_first = torch.zeros(n_vocabulary)
        blank = self._tokenizer.token_to_id("Ġ")
        unsaid = config.get("suppress_tokens") or []
        unsaid_first = config.get("begin_suppress_tokens") or [blank, self.end]
        if max(*unsaid, *unsaid_first) >= n_vocabulary:
            raise WeightsError(
                f"{path} suppresses token {max(*unsaid, *unsaid_first)} of {n_vocabulary}; it is"
                " another model's",
                folder=folder,
            )
        self.suppressed[unsaid] = -torch.inf
        self.suppressed_first[unsaid_first] = -torch.inf
        self._bytes: dict[int, bytes] = {}

    def _id(self, token: str, folder: Path) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise WeightsError(f"{folder}/tokenizer.json has no {token}: not a Whisper tokenizer")
        return int(found)

    def bytes_of(self, token: int) -> bytes:
        """What one id spells; often a part of a character in languages other than English."""
        known = self._bytes.get(token)
        if known is None:
            table = _byte_of_character()
            piece = self._tokenizer.id_to_token(token) or ""
            known = bytes(table[c] for c in piece if c in table)
            self._bytes[token] = known
        return known

    def text(self, ids: Sequence[int]) -> str:
        """What ids spell together; a broken character becomes U+FFFD."""
        return b"".join(map(self.bytes_of, ids)).decode(errors="replace")

    def starts_word(self, token: int) -> bool:
        """Whether a new word begins here: a space comes first."""
        return self.bytes_of(token).startswith(b" ")

    def is_punctuation(self, token: int) -> bool:
        """Whether the token is punctuation alone: it attends to any pause, not to a sound."""
        text = self.bytes_of(token).decode(errors="replace").strip()
        return bool(text) and all(c in PUNCTUATION for c in text)

    def whole_characters(self, ids: Sequence[int]) -> list[int]:
        """Sizes of the shortest runs of `ids` that spell whole characters.

        Runs of more than four bytes cannot be one character: such a run is closed as it is.
        """
        sizes: list[int] = []
        held = b""
        count = 0
        for token in ids:
            held += self.bytes_of(token)
            count += 1
            try:
                held.decode()
            except UnicodeDecodeError as error:
                if error.reason == "unexpected end of data" and len(held) - error.start < 4:
                    continue
            sizes.append(count)
            held, count = b"", 0
        if count:
            sizes.append(count)
        return sizes
