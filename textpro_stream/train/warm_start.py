"""A projector's first lessons, without the LLM: a row shall point where its words' embeddings lie.

    loss = cross-entropy over scaled dot products of the row and the words of an attribute
         + (the row's norm / an embedding's norm - 1)^2

The mean of an attribute's words is taken away first: what they share tells nothing apart. Seconds
of training, and without them an LLM learns nothing from rows (docs/training.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textpro_stream.llm.projector import Projector, random_projector
from textpro_stream.train.utterances import ATTRIBUTES, Utterance

SURE = 40.0  # a score's difference where a row of an embedding's norm points at a word
DROPOUT = 0.1  # of the standardised vector's numbers
DRAWN = 64  # rows a step

Save = Callable[[Path], object]


class Rows(nn.Module):
    """A projector that learns, behind a standardisation that is folded into it when it is kept.

    Args:
        heard: all vectors of training, (n, d_prosody).
        d_model: the LLM's width.
        seed: of the first numbers.
    """

    def __init__(self, heard: Tensor, d_model: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("mean", heard.mean(0))
        self.register_buffer("deviation", heard.std(0) + 1e-6)
        self.mean: Tensor
        self.deviation: Tensor
        self.projector: Projector = random_projector(heard.shape[1], d_model, seed)
        self.projector.requires_grad_()

    def forward(self, pooled: Tensor, dropout: float = 0.0) -> Tensor:
        """Vectors (n, d_prosody) to rows (n, d_model)."""
        plain = (pooled.to(self.mean.device) - self.mean) / self.deviation
        rows: Tensor = self.projector(F.dropout(plain, dropout))
        return rows

    @torch.no_grad()
    def folded(self) -> Projector:
        """The same as one projector of plain vectors, on the CPU."""
        made: Projector = random_projector(self.projector.d_prosody, self.projector.d_model)
        made.load_state_dict(self.projector.state_dict())
        weight = made.up.weight / self.deviation.cpu()
        made.up.bias.sub_(weight @ self.mean.cpu())
        made.up.weight.copy_(weight)
        return made


class Words:
    """Where the rows of each word shall point.

    Args:
        embedding: the LLM's, (n_vocabulary, d_model).
        encode: its tokenizer.
    """

    def __init__(
        self, embedding: Tensor, encode: Callable[[str], tuple[list[int], object]]
    ) -> None:
        table = embedding.detach().float()
        self.norm = float(table.norm(dim=1).mean())  # of an embedding
        self._aims: dict[str, Tensor] = {}
        for name, words in ATTRIBUTES.items():
            own = torch.stack([table[encode(f" {word}")[0]].mean(0) for word in words])
            aims = own - own.mean(0)
            self._aims[name] = aims * (SURE / (self.norm * float(aims.norm(dim=1).mean())))

    def loss(self, rows: Tensor, told: Sequence[Mapping[str, str]]) -> Tensor:
        """Of rows (n, d_model), each with the words that are true of it; a scalar."""
        total: Tensor = (rows.norm(dim=1) / self.norm - 1).square().mean()
        for name, aims in self._aims.items():
            which = [i for i, words in enumerate(told) if name in words]
            if which:
                true = torch.tensor([ATTRIBUTES[name].index(told[i][name]) for i in which])
                total = total + F.cross_entropy(rows[which] @ aims.T, true.to(rows.device))
        return total

    def read(self, rows: Tensor, name: str) -> str:
        """The word of an attribute at which rows (n, d_model) of a clip point."""
        return ATTRIBUTES[name][int((rows.mean(0) @ self._aims[name].T).argmax())]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some vectors."""

    pooled: Tensor  # (n, d_prosody)
    told: tuple[Mapping[str, str], ...]
    names: tuple[str, ...]


class WarmStart:
    """An `Objective`: rows against words.

    Args:
        rows: that learn.
        words: at which they shall point.
        train: drawn by their emotion, each word as often.
        held_out: read at every look.
        save: writes what was learnt into a folder.
    """

    def __init__(
        self,
        rows: Rows,
        words: Words,
        train: Sequence[Utterance],
        held_out: Sequence[Utterance],
        save: Save,
    ) -> None:
        self._rows, self._words, self._held_out, self._keep = rows, words, held_out, save
        by_word: dict[str, list[Utterance]] = {}
        for one in train:
            by_word.setdefault(one.words.get("emotion", ""), []).append(one)
        self._train = [by_word[word] for word in sorted(by_word)]

    def parameters(self) -> Sequence[nn.Parameter]:
        """The projector's."""
        return list(self._rows.projector.parameters())

    def example(self, rng: np.random.Generator) -> Batch:
        """So many rows, each of another draw of word, clip and place."""
        drawn, pooled = [], []
        for _ in range(DRAWN):
            some = self._train[rng.integers(len(self._train))]
            one = some[rng.integers(len(some))]
            drawn.append(one)
            pooled.append(one.pooled[rng.integers(len(one.pooled))])
        names = tuple(one.said.clip.id for one in drawn)
        return Batch(torch.stack(pooled), tuple(one.words for one in drawn), names)

    def name_of(self, example: Batch) -> str:
        """The clips."""
        return ", ".join(example.names)

    def losses(self, example: Batch) -> Mapping[str, Tensor]:
        """See the module."""
        return {"total": self._words.loss(self._rows(example.pooled, DROPOUT), example.told)}

    def evaluate(self) -> Mapping[str, float]:
        """Of each attribute: mean over its words of the share of held-out clips read right."""
        return recalls(self._rows, self._words, self._held_out)

    def save(self, folder: Path) -> None:
        """The projector."""
        self._keep(folder)


@torch.no_grad()
def recalls(rows: Rows, words: Words, some: Sequence[Utterance]) -> dict[str, float]:
    """Read off the rows of whole clips: mean recall of each attribute's words."""
    found = {}
    for name in ATTRIBUTES:
        right: dict[str, list[bool]] = {}
        for one in some:
            if name in one.words:
                read = words.read(rows(one.pooled), name)
                right.setdefault(one.words[name], []).append(read == one.words[name])
        if right:
            found[name] = float(np.mean([np.mean(each) for each in right.values()]))
    return found
