"""Steps of the encoder and the decoder as values, and what the greedy decoder would say next.

A step names its slot, so that a list of steps of several conversations can be one forward. A
decoder pass gives, for each token fed, the next token, how sure it is, what it attended to, and
the vector that prosody reads; all of it comes to the host in one read. Knows nothing of
blocks, commits or text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from textpro_stream.whisper.cache import DecoderAppend, EncoderAppend, EncoderTogether, Slot
from textpro_stream.whisper.host import to_device
from textpro_stream.whisper.model import Decoded, MelWindow, Whisper
from textpro_stream.whisper.tokens import Tokens
from textpro_stream.whisper.vector import Vector


@dataclass(frozen=True, slots=True, eq=False)
class Encode:
    """Positions first .. first+n of one slot."""

    slot: Slot
    mel: Tensor  # (n_frames, n_mels) normalised, from the segment's start; see `MelWindow.cut`
    first: int
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Decode:
    """Tokens for one slot."""

    slot: Slot
    ids: Sequence[int]
    at: int  # place of the first in the decoder's context
    n_positions: int  # of audio that they attend to
    n_choices: int  # for how many of the last tokens a choice is wanted
    first: int | None = None  # which choice, if any, begins a text: not blank, not the end


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model would say next, after one fed token. Plain numbers on the host.

    `end_logprob` against `runner_up_logprob` are the log-odds of end-of-text, evidence of an end of
    turn.
    """

    token: int  # the best
    logprob: float  # its log-probability, natural log
    end_logprob: float  # that of end-of-text
    runner_up: int  # the best that is not end-of-text
    runner_up_logprob: float
    no_speech: float  # log-probability of the no-speech token
    position: int  # attended encoder position: median over the alignment heads
    marks: tuple[float, ...] = ()  # log-probabilities of `Tokens.marks`


N_FIGURES = 9  # numbers that a choice is made of


def encode(model: Whisper, steps: Sequence[Encode], *, whole: bool = False) -> Tensor:
    """Encode new positions of some slots, and let their decoders hear them.

    Args:
        model: shared.
        steps: of equally many positions, no two of one slot.
        whole: each step is all that its slot will hold, so weights that were trained for the
            streaming mask are not wanted.

    Returns:
        States (b, n, d_model).
    """
    windows = [MelWindow.cut(step.mel, step.first, step.n) for step in steps]
    views = [EncoderAppend(step.slot, step.first, step.n) for step in steps]
    view = views[0] if len(views) == 1 else EncoderTogether(views)
    encoder, decoder = model.whole_encoder if whole else model.encoder, model.decoder
    layers = steps[0].slot.cache.layers
    encoded = encoder(encoder.stem(MelWindow.stack(windows)), view, layers)
    states: Tensor = encoded.states
    rows = decoder.cross_rows(states)  # (2, layer, b, n_heads, n, d_head)
    for i, step in enumerate(steps):
        outputs = [output[i] for output in encoded.layers]
        step.slot.hear(rows[:, :, i : i + 1], step.first, outputs)
    return states


class GreedyDecoder:
    """A model's decoder with the rules of what may be said. Shared, never written.

    Args:
        model: shared.
        tokens: which ids may be said, and the special ones.
        vector: what it tells of each token for prosody. Slots keep the layers that this names.
    """

    def __init__(self, model: Whisper, tokens: Tokens, vector: Vector | None = None) -> None:
        self._model, self._vector = model, vector or Vector()
        self._end, self._no_speech = tokens.end, tokens.no_speech
        self._suppressed = tokens.suppressed.to(model.device)
        self._suppressed_first = tokens.suppressed_first.to(model.device)
        self._marks = torch.tensor(tokens.marks, device=model.device)

    @property
    def context(self) -> int:
        """Places for tokens."""
        return self._model.dims.n_context

    def run(self, step: Decode) -> tuple[list[Choice], Tensor]:
        """Feed tokens.

        Returns:
            The choices, and the vectors of the tokens chosen, (n_choices, width) float32 on the
            host.
        """
        model = self._model
        ids = to_device(step.ids, model.device)
        view = DecoderAppend(step.slot, step.at, len(step.ids), step.n_positions)
        decoded = model.decoder(ids[None], view, step.n_choices)
        # One read: on a GPU, each separate one would wait for the device.
        parts = [self.figures(decoded, step.first), *self._told(decoded, step)]
        told = torch.cat(parts, 1).cpu()
        choices = [self._choice(row) for row in told[:, :N_FIGURES].tolist()]
        return choices, told[:, N_FIGURES:]

    def _told(self, decoded: Decoded, step: Decode) -> list[Tensor]:
        """The vector's parts, (n_choices, …) float32, on the device."""
        parts = [decoded.middle[0].float()] if self._vector.middle else []
        if self._vector.layers:
            # The row that makes a token looks at its sound; the one that reads it, at the next.
            weights = decoded.attention[0].mean(0)  # (n_choices, n_seen)
            parts.append((weights @ step.slot.outputs[: weights.shape[1]]).float())
        return parts

    def figures(self, decoded: Decoded, first: int | None = None) -> Tensor:
        """What choices are made of, (n_choices, N_FIGURES) float32, on the device, of one slot.

        Whole numbers among them are exact: there are fewer than 2**24 tokens.
        """
        position = decoded.attention[0].argmax(-1).median(0).values  # (n_choices,)
        logits = self._model.vocabulary(decoded.states[0])
        silent = logits[:, self._no_speech].clone()
        total = logits.logsumexp(-1)
        logits += self._suppressed
        if first is not None:
            logits[first] += self._suppressed_first
        ends = logits[:, self._end].clone()
        marks = logits[:, self._marks] - total[:, None]
        logits[:, self._end] = -torch.inf
        other = logits.max(-1)
        figures = torch.stack(
            [
                ends - total,
                other.values - total,
                silent - total,
                position.float(),
                other.indices.float(),
            ],
            1,
        )
        return torch.cat([figures, marks], 1)

    def _choice(self, row: list[float]) -> Choice:
        end_logprob, logprob, no_speech, position, token, *marks = row
        ends = end_logprob > logprob
        return Choice(
            token=self._end if ends else int(token),
            logprob=max(end_logprob, logprob),
            end_logprob=end_logprob,
            runner_up=int(token),
            runner_up_logprob=logprob,
            no_speech=no_speech,
            position=int(position),
            marks=tuple(marks),
        )
