"""What an LLM makes of a prompt: how likely each option is as the reply, and how far it has moved.

Options are told apart by how likely each is as the reply, and not by the letter that the model
names: one of 135 M parameters knows many answers, and hardly that a letter stands for one. They are
written as a reply would be, with a capital and a full stop: over our own questions 81 % were right
so, 72 % without. The log-likelihood is divided by the number of characters: that takes the
advantage of short options away, whatever the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from textpro_stream.llm.fusion import Row
from textpro_stream.llm.language_model import LanguageModel
from textpro_stream.ports import Session


@dataclass(frozen=True, slots=True)
class Reply:
    """The greedy beginning of a reply."""

    tokens: tuple[int, ...]
    logs: tuple[Tensor, ...]  # log-probabilities before each token, and before its end


@dataclass(frozen=True, slots=True)
class Answer:
    """What the LLM makes of one prompt."""

    scores: tuple[float, ...]  # of each option: log-likelihood, nats a character
    kl: float  # from the reply to the question as text, nats a token
    first: float  # share of its tokens that are the first choice here too
    equal: bool  # the greedy reply is the same

    @property
    def chosen(self) -> int:
        """The likeliest option."""
        return max(range(len(self.scores)), key=self.scores.__getitem__)


def as_reply(option: str) -> str:
    """An option as an assistant writes it."""
    end = "" if option[-1] in ".!?" else "."
    return option[0].upper() + option[1:] + end


class Judge:
    """Asks one model.

    Args:
        model: with its system prompt and number format.
        n_tokens: of a reply that are compared.
    """

    def __init__(self, model: LanguageModel, n_tokens: int) -> None:
        self._model, self._n_tokens = model, n_tokens
        self._pieces = model.chat.pieces(model.options.system_prompt)
        self._stops = model.chat.stop_ids()

    def prompt(self, text: str) -> tuple[Row, ...]:
        """What stands before the reply to a question that was typed."""
        words = self._model.chat.encode(text.strip())[0]
        return (*self._pieces.opening, *words, *self._pieces.suffix)

    @torch.inference_mode()
    def reply(self, prompt: Sequence[Row]) -> Reply:
        """Decode greedily, without the penalty for repetition: distributions are compared."""
        session = self._read(prompt, self._n_tokens)
        tokens: list[int] = []
        logs = [session.logits().log_softmax(-1)]
        while (best := int(logs[-1].argmax())) not in self._stops and len(logs) < self._n_tokens:
            tokens.append(best)
            session.decode(best)
            logs.append(session.logits().log_softmax(-1))
        return Reply(tuple(tokens), tuple(logs))

    @torch.inference_mode()
    def answer(self, prompt: Sequence[Row], options: Sequence[str], expected: Reply) -> Answer:
        """Score the options, and force the expected reply on the prompt.

        Args:
            prompt: what the LLM has read.
            options: replies to choose from.
            expected: to the question as text.
        """
        replies = [as_reply(option) for option in options]
        ids = [self._model.chat.encode(reply)[0] for reply in replies]
        session = self._read(prompt, max(self._n_tokens, *map(len, ids)))
        begin, first = session.length, session.logits().log_softmax(-1)
        scores = []
        for reply, option in zip(replies, ids, strict=True):
            total, logs = 0.0, first
            for i, token in enumerate(option):
                total += float(logs[token])
                if i + 1 < len(option):
                    session.decode(token)
                    logs = session.logits().log_softmax(-1)
            session.crop(begin)
            scores.append(total / len(reply))
        divergence, same, logs = 0.0, 0, first
        for i, sure in enumerate(expected.logs):
            if i:
                session.decode(expected.tokens[i - 1])
                logs = session.logits().log_softmax(-1)
            divergence += float((sure.exp() * (sure - logs)).sum())
            same += int(sure.argmax()) == int(logs.argmax())
        n = len(expected.logs)
        return Answer(tuple(scores), divergence / n, same / n, same == n)

    def _read(self, prompt: Sequence[Row], more: int) -> Session:
        """A cache with the prompt in it, and room for so many tokens more."""
        session = self._model.backbone.open(len(prompt) + more + 1)
        session.prefill(self._model.rows(list(prompt)))
        return session
