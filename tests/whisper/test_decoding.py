from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tiny_whisper import features, melody
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from textpro_stream.linear import Vocabulary
from textpro_stream.whisper.cache import Pool
from textpro_stream.whisper.decoding import Choice, Decode, GreedyDecoder
from textpro_stream.whisper.tokens import Tokens
from textpro_stream.whisper.weights import load_weights

CPU = torch.device("cpu")
WORDS = [260, 271, 259, 290, 280, 265, 300, 257]  # any ids of the text vocabulary


class Ours:
    """Our decoder over one slot, and what its vocabulary said."""

    def __init__(self, folder: Path, tokens: Tokens, *, int8: bool) -> None:
        self.model = load_weights(folder, "float32", CPU)
        self.spy = self.model.vocabulary = Spy(self.model.decoder.embedding, int8=int8)
        self._decoder = GreedyDecoder(self.model, tokens)
        self._slot = Pool(self.model.dims, self.model.dtype, CPU).take()
        self.context = self._decoder.context
        self.n_positions = 0

    @property
    def said(self) -> Tensor:
        return self.spy.said

    def hear(self, states: Tensor, at: int) -> None:
        self._slot.hear(self.model.decoder.cross_rows(states[None]), at)
        self.n_positions = at + len(states)

    def run(
        self, ids: list[int], at: int, n_choices: int, first: int | None = None
    ) -> tuple[list[Choice], Tensor]:
        step = Decode(self._slot, ids, at, self.n_positions, n_choices, first)
        return self._decoder.run(step)


@dataclass
class Pair:
    """One model, as transformers runs it and as we do."""

    theirs: WhisperForConditionalGeneration
    tokens: Tokens
    folder: Path
    heard: Tensor  # (1500, d_model)

    def open(self, *, n_positions: int = 1500, int8: bool = False) -> Ours:
        """Our decoder, having heard the audio."""
        ours = Ours(self.folder, self.tokens, int8=int8)
        ours.hear(self.heard[:n_positions], 0)
        return ours

    def expect(self, ids: list[int], n_positions: int = 1500) -> Expected:
        """Logits, middle states and attended positions of transformers."""
        output = self.theirs(
            encoder_outputs=(self.heard[None, :n_positions],),
            decoder_input_ids=torch.tensor([ids]),
            output_attentions=True,
            output_hidden_states=True,
        )
        layers = self.theirs.config.decoder_layers
        heads = self.theirs.generation_config.alignment_heads
        places = torch.stack([output.cross_attentions[i][0, j].argmax(-1) for i, j in heads])
        return Expected(
            output.logits[0], output.decoder_hidden_states[layers // 2][0], places.median(0).values
        )


@dataclass
class Expected:
    logits: Tensor  # (n, n_vocabulary)
    states: Tensor  # (n, d_model)
    places: Tensor  # (n,)


class Spy(Vocabulary):
    """A vocabulary that remembers its last answer: the decoder suppresses in place."""

    said: Tensor

    def forward(self, hidden: Tensor) -> Tensor:
        answer = super().forward(hidden)
        self.said = answer.clone()
        return answer


@pytest.fixture(scope="module")
def pair(random_folder: Path) -> Pair:
    with torch.inference_mode():
        theirs = WhisperForConditionalGeneration.from_pretrained(
            random_folder, attn_implementation="eager"
        ).eval()
        heard = theirs.model.encoder(features(melody(20, 1))).last_hidden_state[0]
    tokens = Tokens(random_folder, theirs.config.vocab_size)
    return Pair(theirs, tokens, random_folder, heard)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("cuts", [[10], [1] * 10, [2, 5, 1, 2], [9, 1]])
@torch.inference_mode()
def test_passes_of_any_size_give_transformers_logits_and_states(
    pair: Pair, cuts: list[int]
) -> None:
    ids = [*pair.tokens.prompt, *WORDS]
    expected = pair.expect(ids)
    ours = pair.open()
    at, logits, states, places = 0, [], [], []
    for n in cuts:
        choices, middle = ours.run(ids[at : at + n], at, n)
        logits.append(ours.said)
        states.append(middle)
        places += [choice.position for choice in choices]
        at += n
    close(torch.cat(logits), expected.logits)
    close(torch.cat(states), expected.states)
    assert places == expected.places.tolist()


@torch.inference_mode()
def test_a_choice_is_the_best_that_may_be_said(pair: Pair) -> None:
    ids = [*pair.tokens.prompt, *WORDS]
    logprobs = pair.expect(ids).logits.log_softmax(-1)
    ours = pair.open()
    (choice,), _ = ours.run(ids, 0, 1)
    allowed = logprobs[-1] + pair.tokens.suppressed
    assert choice.token == int(allowed.argmax())
    assert choice.logprob == pytest.approx(float(allowed.max()), abs=1e-3)
    assert choice.end_logprob == pytest.approx(float(logprobs[-1, pair.tokens.end]), abs=1e-3)
    assert choice.no_speech == pytest.approx(float(logprobs[-1, pair.tokens.no_speech]), abs=1e-3)
    allowed[pair.tokens.end] = -torch.inf
    assert choice.runner_up == int(allowed.argmax())
    assert choice.runner_up_logprob == pytest.approx(float(allowed.max()), abs=1e-3)


@torch.inference_mode()
def test_a_text_may_not_begin_with_its_end(pair: Pair) -> None:
    ours = pair.open()
    prompt = pair.tokens.prompt
    pair.tokens.suppressed_first[WORDS[0]] = -torch.inf
    try:
        free, _ = ours.run([*prompt, *WORDS], 0, len(WORDS) + 1)
        bound, _ = ours.run([*prompt, *WORDS], 0, len(WORDS) + 1, first=0)
    finally:
        pair.tokens.suppressed_first[WORDS[0]] = 0
    assert bound[0].end_logprob == -torch.inf
    assert bound[0].token not in (pair.tokens.end, WORDS[0])
    assert bound[1:] == free[1:]


@torch.inference_mode()
def test_int8_chooses_as_float32_does(pair: Pair) -> None:
    ids = [*pair.tokens.prompt, *WORDS]
    exact, _ = pair.open().run(ids, 0, 9)
    near, _ = pair.open(int8=True).run(ids, 0, 9)
    assert [c.token for c in near] == [c.token for c in exact]
    assert [c.logprob for c in near] == pytest.approx([c.logprob for c in exact], abs=0.1)


@torch.inference_mode()
def test_only_what_was_heard_is_attended_to(pair: Pair) -> None:
    ids = [*pair.tokens.prompt, *WORDS]
    expected = pair.expect(ids, 300)
    ours = pair.open(n_positions=300)
    ours.run(ids, 0, len(ids))
    close(ours.said, expected.logits)


@torch.inference_mode()
def test_hearing_again_replaces_what_was_provisional(pair: Pair) -> None:
    ids = [*pair.tokens.prompt, *WORDS]
    ours = pair.open(n_positions=200)
    ours.hear(torch.randn(40, 64), 200)  # look-ahead
    ours.run(ids, 0, 1)
    ours.hear(pair.heard[200:300], 200)
    assert ours.n_positions == 300
    ours.run(ids, 0, len(ids))
    close(ours.said, pair.expect(ids, 300).logits)


@torch.inference_mode()
def test_a_draft_leaves_no_trace(pair: Pair) -> None:
    prompt = pair.tokens.prompt
    ours = pair.open()
    ours.run(prompt, 0, 1)
    ours.run([*prompt[1:], *WORDS[:3]], 1, 1)  # a draft, dropped
    ours.run(WORDS[3:5], 2, 2)  # other words in its place
    close(ours.said, pair.expect([*prompt, *WORDS[3:5]]).logits[-2:])


@torch.inference_mode()
def test_the_whole_context_can_be_used(pair: Pair) -> None:
    ours = pair.open()
    ids = [*pair.tokens.prompt, *(WORDS * 56)][: ours.context]
    assert len(ids) == 448
    choices, _ = ours.run(ids, 0, 1)
    assert len(choices) == 1
    close(ours.said, pair.expect(ids).logits[-1:])
