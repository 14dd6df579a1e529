"""An LLM learns to read prosody rows from what it says when the tone is told in words.

    a tone is told        the reply to the words with its rows
                          -> the untrained LLM's to the words and (I sound angry.)
    neutral, or unknown   -> the untrained LLM's to the words alone
    how do I sound?       as well "You sound angry.", the true word

Low-rank adapters on attention (queries, keys and values are one product here, and its output) and
the projector learn; divergences are along the reply that is wanted. The first lessons' loss
(`warm_start.py`) is kept on, so that rows go on pointing where they did.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textpro_stream.contracts import ToneReading
from textpro_stream.evaluate.answers import Judge
from textpro_stream.evaluate.tone_answers import LONGEST, SAID, SOUND, SOUNDS
from textpro_stream.llm.fusion import FusionSpec, Row, Tone
from textpro_stream.llm.language_model import LanguageModel
from textpro_stream.llm.model import Llama
from textpro_stream.llm.session import LlamaBackbone
from textpro_stream.llm.tags import tag_of
from textpro_stream.lora import add_lora
from textpro_stream.train.utterances import Utterance
from textpro_stream.train.warm_start import DROPOUT, Rows, Save, Words

ASKS = ("", "", SOUND, SAID)  # each as often; "": the words alone are replied to
PRODUCTS = ("qkv", "out")  # of each layer, with adapters


@dataclass(frozen=True, slots=True)
class Weighing:
    """What a divergence of one nat a token is worth beside the other losses."""

    answer: float  # the true word behind "You sound"
    anchor: float  # the first lessons


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """A clip, and what is asked about it."""

    one: Utterance
    ask: str  # of `ASKS`


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """A reply that is wanted."""

    tokens: tuple[int, ...]
    shares: Tensor  # (n + 1, n_vocabulary): log-probabilities before each token, and behind all
    answer: Tensor | None  # the tokens again, where they are a true answer


def told_as(one: Utterance) -> str:
    """The tag that tells a clip's true tone."""
    label = one.said.clip.emotion
    if one.is_neutral:
        return ""
    return tag_of(ToneReading(None, None, None, None, None, {label: 1.0}))


def adapted(model: Llama, rank: int, seed: int) -> Llama:
    """A model that shares all weights with another, and learns beside them."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    student = copy.deepcopy(model, shared)
    wanted = lambda name: name.rpartition(".")[2] in PRODUCTS  # noqa: E731
    add_lora(student, rank, seed=seed, wanted=wanted)
    return student


class ToneDistillation:
    """An `Objective`: replies to rows against replies to words.

    Args:
        teacher: the LLM as it is, float32.
        student: of `adapted`.
        rows: that learn on.
        words: at which they point.
        spec: how rows are arranged.
        train: half of what is drawn is neutral.
        held_out: looked at now and then.
        weighing: of the losses.
        save: writes what was learnt into a folder.
    """

    def __init__(
        self,
        teacher: LanguageModel,
        student: Llama,
        rows: Rows,
        words: Words,
        spec: FusionSpec,
        *,
        train: Sequence[Utterance],
        held_out: Sequence[Utterance],
        weighing: Weighing,
        save: Save,
    ) -> None:
        assert isinstance(teacher.backbone, LlamaBackbone)
        self._chat, self._teacher, self._student = teacher.chat, teacher.backbone.model, student
        self._rows, self._words, self._spec = rows, words, spec
        self._pieces = teacher.chat.pieces(teacher.options.system_prompt)
        self._judge = Judge(teacher, LONGEST)
        self._drawn: dict[tuple[str, str], tuple[int, ...]] = {}
        self._sides = [
            side
            for side in ([u for u in train if told_as(u)], [u for u in train if u.is_neutral])
            if side
        ]
        self._held_out, self._weighing, self._keep = held_out, weighing, save

    def parameters(self) -> Sequence[nn.Parameter]:
        """The projector's and the adapters'."""
        return [p for m in (self._rows, self._student) for p in m.parameters() if p.requires_grad]

    def example(self, rng: np.random.Generator) -> Lesson:
        """Half of them neutral; half of them the words alone, for a conversation is no quiz."""
        side = self._sides[rng.integers(len(self._sides))]
        ask = ASKS[rng.integers(len(ASKS))]
        return Lesson(side[rng.integers(len(side))], ask)

    def name_of(self, example: Lesson) -> str:
        """The clip."""
        return example.one.said.clip.id

    def losses(self, example: Lesson) -> Mapping[str, Tensor]:
        """See the module."""
        wanted = self._wanted(example)
        found = self._reply(example, wanted.tokens, DROPOUT)
        reply = F.kl_div(found, wanted.shares, reduction="batchmean", log_target=True)
        rows = self._rows(example.one.pooled, DROPOUT)
        anchor = self._words.loss(rows, [example.one.words] * len(rows))
        total = reply + self._weighing.anchor * anchor
        if wanted.answer is not None:
            total = total + self._weighing.answer * F.nll_loss(found[:-1], wanted.answer)
        return {"total": total, "reply": reply, "anchor": anchor}

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Held out: divergence a token from what is wanted, and first choices that are equal."""
        found: dict[str, list[Tensor]] = {}
        for one in self._held_out:
            lesson = Lesson(one, "")
            wanted = self._wanted(lesson)
            shares = self._reply(lesson, wanted.tokens, 0.0)
            kl = F.kl_div(shares, wanted.shares, reduction="batchmean", log_target=True)
            equal = (shares.argmax(1) == wanted.shares.argmax(1)).float().mean()
            side = "neutral" if one.is_neutral else "told"
            found.setdefault(f"{side}_kl", []).append(kl)
            found.setdefault(f"{side}_equal", []).append(equal)
        return {name: float(torch.stack(values).mean()) for name, values in found.items()}

    def save(self, folder: Path) -> None:
        """Projector and adapters."""
        self._keep(folder)

    @torch.no_grad()
    def _wanted(self, lesson: Lesson) -> _Wanted:
        one, tag = lesson.one, told_as(lesson.one)
        encode = self._chat.encode
        said = [*encode(one.text + lesson.ask)[0], *encode(tag)[0]]
        prompt = [*self._pieces.opening, *said, *self._pieces.suffix]
        answered = bool(tag) and lesson.ask == SOUND
        key = (one.said.clip.id, lesson.ask)
        if key not in self._drawn:
            self._drawn[key] = (
                tuple(encode(f"{SOUNDS} {one.words['emotion']}.")[0])
                if answered
                else self._judge.reply(prompt).tokens
            )
        tokens = self._drawn[key]
        shares = self._along(self._teacher, self._teacher.embed(self._ids(prompt)), tokens)
        answer = self._ids(tokens) if answered else None
        return _Wanted(tokens, shares, answer)

    def _reply(self, lesson: Lesson, tokens: Sequence[int], dropout: float) -> Tensor:
        """The student's log-probabilities along a reply, (n + 1, n_vocabulary)."""
        said = lesson.one.asked(lesson.ask, self._chat.encode, self._spec)
        rows: list[Row] = [*self._pieces.opening, *said, *self._pieces.suffix]
        tones = [(i, row) for i, row in enumerate(rows) if isinstance(row, Tone)]
        ids = self._ids([0 if isinstance(row, Tone) else row for row in rows])
        pooled = torch.stack([tone.pooled() for _, tone in tones])
        where = self._ids([i for i, _ in tones])
        read = self._student.embed(ids).index_copy(0, where, self._rows(pooled, dropout))
        return self._along(self._student, read, tokens)

    def _along(self, model: Llama, read: Tensor, tokens: Sequence[int]) -> Tensor:
        whole = torch.cat([read, model.embed(self._ids(tokens))])
        hidden = model(whole[None])[0, len(read) - 1 :]
        shares: Tensor = model.vocabulary(hidden).log_softmax(-1)
        return shares

    def _ids(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(list(ids), dtype=torch.long, device=self._teacher.device)
