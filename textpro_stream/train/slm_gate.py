"""What a trained projector is worth beside words alone and tags, on speakers it has not heard.

It has to leave the LLM's sense alone where there is nothing to tell, and to tell more than tags do
where there is: only then may it be anybody's default. Replies and answers are those of
`evaluate.tone_answers`, so they compare with `textpro eval tone`; in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from textpro_stream.evaluate.bootstrap import interval
from textpro_stream.evaluate.evidence import tell_progress
from textpro_stream.evaluate.prosody import reading_of
from textpro_stream.evaluate.tone_answers import SOUND, Answers, Beside
from textpro_stream.evaluate.tone_figures import WORDS, Estimate
from textpro_stream.llm.fusion import Row
from textpro_stream.llm.language_model import LanguageModel
from textpro_stream.prosody.tone import ToneHead
from textpro_stream.train.utterances import Utterance

MOST_KL = 0.05  # nats a token, on neutral speech
LEAST_EQUAL = 0.95  # of first choices, likewise
COLUMNS = ("words only", "tags", "projector")


@dataclass(frozen=True, slots=True)
class Gate:
    """Figures in the order of `COLUMNS`, each over the same clips."""

    kl: tuple[Estimate, ...]  # neutral speech: nats a token, from the reply to words only
    equal: tuple[Estimate, ...]  # likewise: share of first choices
    right: tuple[Estimate, ...]  # "How do I sound?"
    more: Estimate  # right answers of the projector above those of the tags, clip by clip
    n_labels: int

    @property
    def passed(self) -> bool:
        """It moves replies to neutral speech by no more than allowed."""
        kl, equal = self.kl[-1].value, self.equal[-1].value
        return kl is not None and equal is not None and kl <= MOST_KL and equal >= LEAST_EQUAL

    @property
    def beats_tags(self) -> bool:
        """Surely more right answers than by tags."""
        return self.more.low is not None and self.more.low > 0

    def __str__(self) -> str:
        """A table, and a line each on the gate and on the tags."""
        head = f"| | clips | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|"
        rows = (
            ("reply to neutral speech: nats a token", self.kl),
            ("reply to neutral speech: first choices equal", self.equal),
            (f"how do I sound? right of {self.n_labels} labels", self.right),
        )
        lines = [
            f"| {name} | {found[0].n} | {' | '.join(map(str, found))} |" for name, found in rows
        ]
        asked = f"<= {MOST_KL:g} nats a token and >= {100 * LEAST_EQUAL:.0f} % equal first choices"
        gate = f"Gate ({asked} on neutral speech): {'passed' if self.passed else 'NOT passed'}."
        more = f"right answers above the tags' {self.more}"
        tags = f"Tags: {'beaten' if self.beats_tags else 'NOT beaten'}; {more}."
        return "\n".join([head, *lines, "", gate, tags])


def measure(
    plain: LanguageModel, trained: LanguageModel, head: ToneHead, some: Sequence[Utterance]
) -> Gate:
    """Ask both models about clips that nobody was trained on.

    Args:
        plain: the LLM as it is.
        trained: the same with a projector.
        head: a readout that has not heard these speakers: what the tags are told from.
        some: clips.
    """
    words = tuple(dict.fromkeys(WORDS[label] for label in sorted(WORDS)))
    before, after = Answers(plain, words), Answers(trained, words)
    replies: list[tuple[Beside, ...]] = []
    answers: list[tuple[bool, ...]] = []
    asked = [one for one in some if one.said.clip.emotion in WORDS]
    with torch.inference_mode():
        for n, one in enumerate(some, 1):
            tone, label = reading_of(head, one.said), one.said.clip.emotion
            if one.is_neutral:
                bare = before.draw(before.prompt(one.text, None))
                tags = before.beside(before.prompt(one.text, tone), bare)
                replies.append((bare.alone, tags, after.beside(prompt(trained, one), bare)))
            if label in WORDS:
                said = (
                    before.sounds(before.prompt(one.text + SOUND, None)),
                    before.sounds(before.prompt(one.text + SOUND, tone)),
                    after.sounds(prompt(trained, one, SOUND)),
                )
                answers.append(tuple(answer == WORDS[label] for answer in said))
            tell_progress(n, len(some), "held-out clips answered")
    tokens = _column(replies, lambda reply: reply.tokens)
    right = np.array(answers, np.float64).reshape(-1, len(COLUMNS))
    once = np.ones(len(right))
    return Gate(
        _estimates(_column(replies, lambda reply: reply.divergence), tokens[:, 0]),
        _estimates(_column(replies, lambda reply: reply.equal), tokens[:, 0]),
        _estimates(right, once),
        _estimates(right[:, 2:] - right[:, 1:2], once)[0],
        len({one.said.clip.emotion for one in asked}),
    )


def prompt(model: LanguageModel, one: Utterance, question: str = "") -> list[Row]:
    """A first turn, as a conversation makes it of words with prosody rows among them."""
    pieces = model.chat.pieces(model.options.system_prompt)
    said = one.asked(question, model.chat.encode, model.fusion)
    return [*pieces.opening, *said, *pieces.suffix]


def _column(
    replies: Sequence[tuple[Beside, ...]], number: Callable[[Beside], float]
) -> NDArray[np.float64]:
    found = [[number(reply) for reply in row] for row in replies]
    return np.array(found, np.float64).reshape(-1, len(COLUMNS))


def _estimates(sums: NDArray[np.float64], counts: NDArray[np.float64]) -> tuple[Estimate, ...]:
    """Of each column of sums (clips, columns): over all clips, and where 95 % of it lies."""
    found = []
    for column in sums.T:

        def figure(drawn: NDArray[np.int_], column: NDArray[np.float64] = column) -> float:
            n = counts[drawn].sum()
            return float(column[drawn].sum() / n) if n else float("nan")

        if not len(column):
            found.append(Estimate(None, None, None, 0))
            continue
        every = np.arange(len(column))
        found.append(Estimate(figure(every), *interval(figure, every), len(column)))
    return tuple(found)
