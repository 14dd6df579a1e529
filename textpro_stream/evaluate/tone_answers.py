"""What an LLM makes of a turn that is said to sound in some way: answers, and what else changes.

    How do I sound?           the likeliest of some words behind "You sound"
    What did I just say?      the likeliest of these words and others behind "You said"; the answer
                              itself, beside that to the bare words
    (the words alone)         the reply, beside that to the bare words

Replies are compared along the tokens of the reply to the bare words: divergence of the two
distributions at each of them, and whether both would choose the same. Greedy, without a repetition
penalty, so that nothing but the prompt makes a difference. Knows nothing of audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch.nn.functional as F
from torch import Tensor

from textpro_stream.contracts import ToneReading
from textpro_stream.errors import ConfigError
from textpro_stream.llm.fusion import Row
from textpro_stream.llm.language_model import LanguageModel
from textpro_stream.llm.session import LlamaBackbone
from textpro_stream.llm.tags import tag_of

SOUND, SOUNDS = " How do I sound?", "You sound"
SAID, SAYS = " What did I just say?", "You said:"
OTHERS = 3  # turns that are offered beside the true one
LONGEST = 16  # tokens of a reply that are looked at
CONTEXT = 1024


@dataclass(frozen=True, slots=True)
class Beside:
    """A reply beside the one to the bare words, along that one's tokens."""

    tokens: int
    divergence: float  # nats, summed over them: of the other distribution from this one
    equal: int  # of them, those that both would choose first

    @property
    def same(self) -> bool:
        """Both say the same."""
        return self.equal == self.tokens


@dataclass(frozen=True, slots=True)
class Answer:
    """To one turn, told with one tone."""

    tag: str  # what was said of it
    sounds: str  # the word that is the likeliest
    knows: bool  # of some turns, the true one is the likeliest to have been said
    said: Beside
    reply: Beside


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A greedy reply: its tokens, the one that ended it among them, and log-probabilities there."""

    tokens: list[int]
    shares: Tensor  # (n, n_vocabulary)

    @property
    def alone(self) -> Beside:
        """Beside itself."""
        return Beside(len(self.tokens), 0.0, len(self.tokens))


class Answers:
    """Asks a model.

    Args:
        model: whose template and weights.
        words: that a voice may sound like, e.g. "angry".

    Raises:
        ConfigError: a model that our own step does not run.
    """

    def __init__(self, model: LanguageModel, words: Sequence[str]) -> None:
        if not isinstance(model.backbone, LlamaBackbone):
            raise ConfigError("eval tone wants a Llama, Qwen2 or Mistral: give one by --llm")
        self._model, self._words = model, tuple(words)
        self._session = model.backbone.open(min(CONTEXT, model.backbone.context))
        self._held: list[Row] = []

    def to(
        self, text: str, tones: Sequence[ToneReading | None], others: Sequence[str] = ()
    ) -> list[Answer]:
        """Answers to a turn of these words, told with each of the tones.

        Args:
            text: what was said.
            tones: of the same words; None says nothing of it.
            others: turns that were not said.
        """
        text = text.strip()
        offered = [text, *(other.strip() for other in others)]
        plain = {ask: self.draw(self.prompt(text + ask, None)) for ask in (SAID, "")}
        found: dict[str, Answer] = {}
        for tone in tones:
            tag = tag_of(tone)
            if tag not in found:
                said, reply = plain[SAID].alone, plain[""].alone
                if tag:
                    said = self.beside(self.prompt(text + SAID, tone), plain[SAID])
                    reply = self.beside(self.prompt(text, tone), plain[""])
                found[tag] = Answer(
                    tag,
                    self.sounds(self.prompt(text + SOUND, tone)),
                    self._likeliest(self.prompt(text + SAID, tone), SAYS, offered) == text,
                    said,
                    reply,
                )
        return [found[tag_of(tone)] for tone in tones]

    def prompt(self, text: str, tone: ToneReading | None) -> list[Row]:
        """The rows of a first turn, as `llm.dialogue` makes them for `[llm] fusion = "tags"`."""
        chat = self._model.chat
        pieces = chat.pieces(self._model.options.system_prompt)
        said = [*chat.encode(text)[0], *chat.encode(tag_of(tone))[0]]
        return [*pieces.opening, *said, *pieces.suffix]

    def sounds(self, prompt: Sequence[Row]) -> str:
        """The likeliest of the words, where the prompt asks how somebody sounds."""
        return self._likeliest(prompt, SOUNDS, self._words)

    def _likeliest(self, prompt: Sequence[Row], begun: str, options: Sequence[str]) -> str:
        encode = self._model.chat.encode
        rows = [*prompt, *encode(begun)[0]]
        odds = [self._odds(rows, encode(f" {option}")[0]) for option in options]
        return options[odds.index(max(odds))]

    def _odds(self, prompt: Sequence[Row], tokens: Sequence[int]) -> float:
        """Mean log-probability of these tokens next."""
        shares = self._along(prompt, tokens)
        return float(shares[range(len(tokens)), list(tokens)].mean())

    def draw(self, prompt: Sequence[Row]) -> Drawn:
        """The greedy reply to a prompt."""
        stops, tokens = self._model.chat.stop_ids(), list[int]()
        while len(tokens) < LONGEST and not (tokens and tokens[-1] in stops):
            self._follow([*prompt, *tokens])
            tokens.append(int(self._session.logits().argmax()))
        # In one pass, as others are looked at: int8 rounds rows a little differently alone.
        return Drawn(tokens, self._along(prompt, tokens))

    def beside(self, prompt: Sequence[Row], plain: Drawn) -> Beside:
        """The reply to a prompt beside another, which may be another model's."""
        n = len(plain.tokens)
        shares = self._along(prompt, plain.tokens)
        divergence = F.kl_div(shares, plain.shares, reduction="sum", log_target=True)
        equal = int((shares.argmax(1) == plain.shares.argmax(1)).sum())
        return Beside(n, float(divergence), equal)

    def _along(self, prompt: Sequence[Row], tokens: Sequence[int]) -> Tensor:
        """Log-probabilities where each of the tokens stands, (n, n_vocabulary)."""
        self._follow(prompt)
        self._session.crop(len(prompt) - 1)  # its last row is read beside what follows it
        del self._held[-1:]
        self._follow([*prompt, *tokens[:-1]])
        return self._session.logits_of(len(tokens)).double().log_softmax(-1)

    def _follow(self, rows: Sequence[Row]) -> None:
        """Hold these rows: keep the beginning that is held already, read the rest."""
        same = (one == other for one, other in zip(rows, self._held, strict=False))
        common = sum(takewhile(bool, same))
        self._session.crop(common)
        self._session.prefill(self._model.rows(rows[common:]))
        self._held = list(rows)
