"""One segment: a slot's caches, words committed and a draft that may change.

At each block the draft is verified in one batched pass together with the last committed tokens
(their cached rows were computed while attending to less audio; recomputing 16 of them brought WER
from 18.5 to 8.3), then extended token by token until the model, or a guard, ends it.
Positions are counted from the segment's origin. Knows nothing of samples, streams or turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from torch import Tensor

from textpro_stream.whisper.cache import Slot
from textpro_stream.whisper.commit import CommitRule
from textpro_stream.whisper.decoding import Choice, Decode, GreedyDecoder
from textpro_stream.whisper.draft import Drafted, Outcome, View, Why
from textpro_stream.whisper.guards import Guards, Watch
from textpro_stream.whisper.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Drafting:
    """Numbers of the walk itself, guarded or not. They are Whisper's, of any size."""

    refreshed: int = 16  # committed tokens recomputed at each block; the module says what it brings
    edge: int = 4  # positions: a token that attends this close to the end was not heard whole
    back: int = 25  # positions: attention that jumps back this far is lost or repeats itself


class Segment:
    """At most one Whisper window of audio and its words.

    Args:
        slot: of the conversation; what it held before is scratch.
        decoder: shared.
        tokens: the vocabulary.
        carried: words already committed whose audio this segment hears again.
        commit: the rule.
        guards: tests for no-speech, pace, repetition and uncovered speech; None: none.
        drafting: numbers of the walk.
    """

    def __init__(
        self,
        slot: Slot,
        decoder: GreedyDecoder,
        tokens: Tokens,
        *,
        carried: Sequence[Drafted] = (),
        commit: CommitRule,
        guards: Guards | None,
        drafting: Drafting,
    ) -> None:
        self.slot = slot
        self._decoder, self._tokens = decoder, tokens
        self._commit, self._guards, self._drafting = commit, guards, drafting
        self.length = 0  # final encoder positions
        self.committed: list[Drafted] = list(carried)
        self.draft: list[Drafted] = []
        self._context = [*tokens.prompt, *(d.token for d in carried)]
        self.muted = False  # whether the draft is taken for noise put into words
        self._begun = False  # whether the decoder's cache holds the context
        self.passes = 0  # of the decoder

    @property
    def last_position(self) -> int:
        """The furthest that committed words attend to; 0 before the first."""
        return _last(self.committed)

    def peek(self, view: View) -> Outcome:
        """As `look`, without a trace: what it writes, the next look computes again."""
        begun, muted = self._begun, self.muted
        outcome = self.look(view)
        self._begun, self.muted = begun, muted
        return outcome

    def look(self, view: View) -> Outcome:
        """Verify and extend the draft over what is heard now. Changes caches, nothing else."""
        base = len(self._context) - 1  # place of the token whose choice comes first
        begin = max(0, base - self._drafting.refreshed) if self._begun else 0
        self._begun = True
        fed = self._context[begin:] + [d.token for d in self.draft]
        at_start = not self.committed
        back = self._n_marks(self.committed) if view.final else 0
        n_choices = len(fed) if at_start else len(self.draft) + 1 + back
        first = len(self._tokens.prompt) - 1 if at_start else None
        choices, states = self._run(fed, begin, view, n_choices, first)
        silent = choices[0].no_speech  # at the start this is the prompt's first token
        if at_start:
            choices, states = choices[base:], states[base:]
        outcome = self._walk(view, choices[back:], states[back:])
        if view.final and outcome.after_word is None:  # nothing but marks is new
            outcome.after_word = choices[0]
        self.muted = (
            at_start
            and self._guards is not None
            and self._guards.noise(silent, outcome, final=view.final)
        )
        if self.muted:  # kept to be compared with the next draft, not to be shown
            return Outcome([] if view.final else outcome.draft, "no_speech")
        outcome.n_agreed = self._commit.n_agreed(outcome, self.draft, view, self._tokens)
        return outcome

    def take(self, outcome: Outcome) -> list[Drafted]:
        """Commit what the outcome is sure of; keep the rest as the draft."""
        new = outcome.draft[: outcome.n_agreed]
        self.draft = outcome.draft[outcome.n_agreed :]
        self.committed += new
        self._context += [d.token for d in new]
        return new

    def _run(
        self, ids: list[int], at: int, view: View, n_choices: int, first: int | None = None
    ) -> tuple[list[Choice], Tensor]:
        self.passes += 1
        return self._decoder.run(Decode(self.slot, ids, at, view.n_encoded, n_choices, first))

    def _walk(self, view: View, choices: list[Choice], states: Tensor) -> Outcome:
        """Follow the verified draft as far as it holds, then decode on."""
        tokens, guards, rules = self._tokens, self._guards, self._drafting
        watch = guards and Watch(guards, tokens, self.committed, view.n_heard, view.final)
        walked: list[Drafted] = []
        known = [d.token for d in self.draft]
        said: list[Choice] = []  # behind each walked token, and behind what came before
        at = 0  # in choices
        room = self._decoder.context - len(self._context) - 2
        last = self.last_position
        while True:
            choice = choices[at]
            said.append(choice)
            token, logprob = choice.token, choice.logprob
            ended = token == tokens.end
            if ended and guards and not view.final:
                ended = not guards.early_end(view.levels(), last, choice)
                if not ended:
                    token, logprob = choice.runner_up, choice.runner_up_logprob
            if ended:
                return self._outcome(walked, "end", said)
            begins = tokens.starts_word(token)
            if guards and begins and guards.silence(view.levels(), last):
                return self._outcome(walked, "silence", said)
            away = choice.position < last - rules.back
            position = last if away or tokens.is_punctuation(token) else choice.position
            drafted = Drafted(token, position, logprob, states[at])
            if not view.final and position >= view.n_heard - rules.edge:
                return Outcome([*walked, drafted], "edge")
            if watch:
                why = watch.stops(walked, drafted, back=away and begins)
                if why:
                    return self._outcome(walked[: watch.cut], why, said)
            if len(walked) >= room:
                return self._outcome(walked, "full", said)
            walked.append(drafted)
            last = _last([*self.committed, *walked])
            if at < len(known) and known[at] == token:
                at += 1
                continue
            choices, states = self._run([token], len(self._context) - 1 + len(walked), view, 1)
            at, known = 0, []

    def _outcome(self, walked: list[Drafted], why: Why, said: list[Choice]) -> Outcome:
        """A walk's end, with what the model would have said after its last word."""
        n_marks = self._n_marks(walked)
        words_end = len(walked) - n_marks
        begun_by_mark = words_end == 0 and self._n_marks(self.committed) > 0
        after_word = None if begun_by_mark else said[words_end]
        return Outcome(walked, why, after_word=after_word, after_all=said[len(walked)])

    def _n_marks(self, drafted: Sequence[Drafted]) -> int:
        """How many marks stand at the end."""
        marks = takewhile(lambda d: self._tokens.is_punctuation(d.token), reversed(drafted))
        return sum(1 for _ in marks)


def _last(words: Sequence[Drafted]) -> int:
    """The furthest that the last words attend to: attention may swing back by a word or two."""
    return max((d.position for d in words[-3:]), default=0)
