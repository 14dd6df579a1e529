"""Teach the encoder its own mask: streaming states that say what offline ones do.

Whisper was trained on whole windows. Streaming shows it a block and a little look-ahead, and never
lets it change its mind. The teacher is the same model, unchanged, over the whole clip; the student
hears the clip in blocks, with low-rank adapters in its encoder, and is pulled towards the teacher's
encoder states, and towards what the unchanged decoder makes of them along the teacher's own
transcript: middle states and next tokens. Speech needs no text for it. Blocks and look-aheads are
drawn anew for each example; clips are cut anywhere, since the decoder is also asked what it would
say were the audio to end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from textpro_stream.config import WhisperOptions
from textpro_stream.contracts import POSITION_HOP, SAMPLE_RATE
from textpro_stream.lora import add_lora, fingerprint, lora_tensors, save_lora
from textpro_stream.train.augment import Augmentation, augment
from textpro_stream.train.data import as_float
from textpro_stream.train.teacher import AFTER, Spoken, whole_mel
from textpro_stream.whisper.blocks import Blocks, Grid, WholeText
from textpro_stream.whisper.mel import LEAST_MAXIMUM, N_FFT, MelStream, normalise
from textpro_stream.whisper.model import MelWindow, Whisper
from textpro_stream.whisper.segment import Drafting

SHORTEST_S = 1.5  # of what is left of a clip that is cut


@dataclass(frozen=True, slots=True)
class Distillation:
    """What is drawn, and what weighs how much."""

    # Drawn as often as they are named: what is in use most.
    blocks_ms: tuple[int, ...] = (320, 480, 480, 640)
    look_aheads_ms: tuple[int, ...] = (0, 160, 320, 320, 320)
    cut: float = 0.4  # share of clips that end anywhere
    endings: tuple[int, ...] = (100, 150, 150, 250)  # positions of silence behind the end
    provisional: float = 0.5  # weight of look-ahead positions against final ones
    states: float = 1.0  # weight of the encoder states
    tokens: float = 1.0  # weight of the next tokens' divergence
    middle: float = 0.3  # weight of the decoder's middle states


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One clip as the student hears it."""

    name: str
    clean: NDArray[np.float32]  # what the teacher hears
    heard: NDArray[np.float32]  # what the student hears
    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    grid: Grid
    ending: int  # positions of silence behind the end
    later: tuple[int, ...]  # blocks that each token waits beyond the first possible


def block_rows(
    model: Whisper, filters: Tensor, samples: NDArray[np.float32], grid: Grid, ending: int
) -> tuple[Tensor, Blocks]:
    """A clip as streaming hears it: stem rows of all blocks, each as loud as was known then.

    The last block is the look that `Recognizer.finish` takes: nothing becomes final in it.

    Args:
        model: whose stem.
        filters: mel filters.
        samples: (n,) that fit one segment.
        grid: of the blocks.
        ending: positions of silence behind the clip in the last look.

    Returns:
        Rows (1, n_columns, d_model), and the view that they are encoded with.
    """
    n_heard = len(samples) // POSITION_HOP
    plan = grid.plan(len(samples))
    length = sum(n_final for n_final, _ in plan)
    plan = [*plan, (0, n_heard + ending - length)]
    silence = np.zeros(ending * POSITION_HOP + 2 * N_FFT, np.float32)
    frames = MelStream(filters).push(np.concatenate([samples, silence]))
    loudest = torch.cummax(frames.amax(1), 0).values.clamp_min(LEAST_MAXIMUM)
    final, ahead, first = [], [], 0
    for n_final, n_ahead in plan:
        n = n_final + n_ahead
        known = min(first + n, n_heard)
        mel = normalise(frames[: 2 * (first + n) + 2], loudest[max(0, 2 * known - 1)])
        rows = model.encoder.stem(MelWindow.cut(mel, first, n))
        final.append(rows[:, :n_final])
        ahead.append(rows[:, n_final:])
        first += n_final
    return torch.cat([*final, *ahead], 1), Blocks(plan, filters.device)


class EncoderDistillation:
    """An `Objective`.

    Args:
        teacher: unchanged.
        student: the same weights once more; adapters are put into its encoder.
        filters: mel filters.
        prompt: ids that open a text.
        train: clips to learn from.
        held_out: clips to measure on.
        noises: recorded noise, float32 at 16 kHz.
        rank: of the adapters.
        rules: what is drawn, and what weighs how much.
        augmentation: other rooms and microphones.
    """

    def __init__(
        self,
        teacher: Whisper,
        student: Whisper,
        *,
        filters: Tensor,
        prompt: Sequence[int],
        train: Sequence[Spoken],
        held_out: Sequence[Spoken],
        noises: Sequence[NDArray[np.float32]] = (),
        rank: int = 16,
        rules: Distillation | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self._teacher, self._student, self._filters = teacher, student, filters
        self._prompt = tuple(prompt)
        self._train, self._held_out, self._noises = train, held_out, noises
        self._rules = rules or Distillation()
        self._augmentation = augmentation or Augmentation()
        add_lora(student.encoder, rank)

    def parameters(self) -> Sequence[nn.Parameter]:
        """The adapters'."""
        return [p for p in self._student.encoder.parameters() if p.requires_grad]

    def example(self, rng: np.random.Generator, /) -> Example:
        """A clip, cut, in another room, on a grid of its own."""
        spoken = self._train[int(rng.integers(len(self._train)))]
        return self._draw(spoken, rng, self._augmentation)

    def name_of(self, example: Example, /) -> str:
        """Id of its clip."""
        return example.name

    def losses(self, example: Example, /) -> Mapping[str, Tensor]:
        """How far the student is from the teacher."""
        rules = self._rules
        found = self._compare(example)
        total = (
            rules.states * found["states"]
            + rules.tokens * found["tokens"]
            + rules.middle * found["middle"]
        )
        return {"total": total, **{n: found[n] for n in ("states", "tokens", "middle")}}

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """Means over what is held out, as the recogniser's default grid hears it, clean."""
        sums: dict[str, float] = {}
        default = WhisperOptions()
        grid = Grid.of(default.block_ms, default.look_ahead_ms)
        for number, spoken in enumerate(self._held_out):
            rng = np.random.default_rng((1, number))
            found = self._compare(self._draw(spoken, rng, None, grid))
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {name: value / max(1, len(self._held_out)) for name, value in sums.items()}

    def save(self, folder: Path, /) -> None:
        """`encoder.safetensors`: the adapters."""
        base = fingerprint(self._teacher.encoder.conv1.weight)
        tensors = {f"encoder.{n}": t for n, t in lora_tensors(self._student.encoder).items()}
        save_lora(folder / "encoder.safetensors", tensors, scale=1.0, base=base)

    def _draw(
        self,
        spoken: Spoken,
        rng: np.random.Generator,
        augmentation: Augmentation | None,
        grid: Grid | None = None,
    ) -> Example:
        rules = self._rules
        clean = as_float(spoken.samples)
        shortest = round(SHORTEST_S * SAMPLE_RATE)
        if rng.random() < rules.cut and len(clean) > shortest:
            clean = clean[: int(rng.integers(shortest, len(clean)))]
        window = self._teacher.dims.n_positions
        clean = clean[: (window - AFTER) * POSITION_HOP]
        block, ahead = rng.choice(rules.blocks_ms), rng.choice(rules.look_aheads_ms)
        ending = int(rng.choice(rules.endings))
        n_heard = len(clean) // POSITION_HOP
        # Words that are cut in two belong to neither side.
        n = sum(position < n_heard - 10 for position in spoken.positions)
        heard = clean if augmentation is None else augment(clean, augmentation, self._noises, rng)
        return Example(
            name=spoken.clip.id,
            clean=clean,
            heard=heard,
            tokens=spoken.tokens[:n],
            positions=spoken.positions[:n],
            grid=grid or Grid.of(int(block), int(ahead)),
            ending=min(ending, window - n_heard),
            later=tuple(int(k) for k in rng.geometric(0.5, n + 1) - 1),
        )

    def _compare(self, example: Example) -> dict[str, Tensor]:
        n_heard = len(example.clean) // POSITION_HOP
        device = self._filters.device
        ids = torch.tensor([[*self._prompt, *example.tokens]], device=device)
        with torch.no_grad():
            taught = self._offline(example.clean, n_heard + AFTER)
            view = WholeText(ids.shape[1], self._teacher.decoder.cross_rows(taught))
            said = self._teacher.decoder(ids, view)
            # The teacher may speak through an int8 vocabulary; both are asked by the exact one.
            wanted = self._student.vocabulary(said.states[0]).log_softmax(-1)
        columns, blocks = block_rows(
            self._student, self._filters, example.heard, example.grid, example.ending
        )
        states = self._student.encoder(columns, blocks).states
        weight, at = self._weights(blocks, n_heard + AFTER)
        gap = (states[0] - taught[0, at]).square().mean(-1)
        spread = taught.var()
        heard = self._student.decoder(
            ids,
            WholeText(
                ids.shape[1],
                self._student.decoder.cross_rows(states),
                blocks.seen_by(self._said_in(example).to(device)),
            ),
        )
        first = len(self._prompt) - 1  # the row that says the first token of the text
        found = self._student.vocabulary(heard.states[0]).log_softmax(-1)
        kl = F.kl_div(found, wanted, log_target=True, reduction="none").sum(-1)[first:]
        middle = (heard.middle - said.middle).square().mean() / said.middle.var()
        agreed = (found.argmax(-1) == wanted.argmax(-1))[first:].float().mean()
        return {
            "states": (gap * weight).sum() / weight.sum() / spread,
            "tokens": kl.mean(),
            "middle": middle,
            "agreed": agreed,
        }

    def _offline(self, samples: NDArray[np.float32], n: int) -> Tensor:
        """The teacher's states, (1, n, d_model)."""
        window = MelWindow.cut(whole_mel(self._filters, samples, n), 0, n)
        encoder = self._teacher.encoder
        states: Tensor = encoder(encoder.stem(window)).states
        return states

    def _weights(self, blocks: Blocks, n: int) -> tuple[Tensor, Tensor]:
        """What each column's gap weighs, and which of the teacher's n positions it is set against.

        Added silence beyond the teacher's own is left alone.
        """
        weight = torch.where(blocks.final, 1.0, self._rules.provisional)
        weight = weight * (blocks.positions < n)
        return weight, blocks.positions.clamp_max(n - 1)

    def _said_in(self, example: Example) -> Tensor:
        """In which block each row of the text is said: the first that hears it, or a later one."""
        plan = example.grid.plan(len(example.heard))
        last = len(plan)  # the look at the end
        available, length = [], 0
        for n_final, n_ahead in plan:
            available.append(length + n_final + n_ahead)
            length += n_final
        said: list[int] = []
        at, edge = 0, Drafting().edge
        # A row says the next token. The last says that the text ends; only the end shows that.
        wanted = [position + edge for position in example.positions]
        for position, later in zip(wanted, example.later, strict=False):
            while at < last and available[at] <= position:
                at += 1
            said.append(min(last, at + later))
        said.append(last)
        rows = np.maximum.accumulate(np.asarray(said))
        return torch.from_numpy(np.concatenate([np.full(len(self._prompt) - 1, rows[0]), rows]))
