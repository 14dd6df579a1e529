"""The streaming recognizer: audio of one turn in, committed words and an open tail out.

Audio is cut into blocks of a fixed grid, whatever sizes it arrives in, so how the transport cuts
it changes when a word appears, never which. Each block is one step of the encoder and a few of the
decoder; which words stay, what is noise and when a segment ends is decided by the rules of
`policy.py`. Knows nothing of turns or VAD.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textpro_stream.contracts import (
    POSITION_HOP,
    AudioChunk,
    Ending,
    Preview,
    Revision,
    TokenSpan,
    Transcript,
)
from textpro_stream.ports import Observer
from textpro_stream.whisper.cache import Slot
from textpro_stream.whisper.decoding import Encode, encode
from textpro_stream.whisper.draft import Drafted, Outcome, View
from textpro_stream.whisper.mel import N_FFT, Spectrum
from textpro_stream.whisper.policy import Policy
from textpro_stream.whisper.roll import Roll, Standing, roll
from textpro_stream.whisper.segment import Segment
from textpro_stream.whisper.timing import time_spans
from textpro_stream.whisper.work import Work

if TYPE_CHECKING:
    from textpro_stream.whisper.whisper_pro import WhisperPro

EDGE = 110  # positions, 2.2 s: encoder states that a preview tells of


class Recognizer:
    """A `Stage`: `AudioChunk` in, `Transcript` out. One turn, one thread.

    Args:
        model: shared.
        policy: its rules.
        start: sample index of the first sample that it will be given.
        observer: told when the encoder and the decoder are busy.
    """

    def __init__(self, model: WhisperPro, policy: Policy, start: int, observer: Observer) -> None:
        self._model, self._policy, self._start, self._observer = model, policy, start, observer
        self._pending: list[NDArray[np.float32]] = []  # not yet a whole block
        self._n_pending = 0
        self._spectrum = Spectrum(model.filters)  # of the segment
        self._slot = model.pool.take()
        self._segment = self._open_segment(())
        self._origin = 0  # position of the segment's first
        self._heard = 0  # positions complete so far, from the stream's start
        self._samples = 0  # in whole blocks
        self._end = start  # samples: end of the last committed span
        self._n_spans = 0  # committed
        # As the segment began: words that it hears again, spans committed before it, their end.
        self._opened: tuple[Sequence[Drafted], int, int] = (), 0, start
        self._preview: Preview | None = None
        self._previewed: list[Drafted] = []  # its tokens
        whisper = model.model
        edge = torch.zeros(0, whisper.dims.d_model, dtype=whisper.dtype, device=whisper.device)
        self._edge = edge  # final states, newest last
        self._progress = 0  # positions heard when a word was last committed
        self._finished = False
        self.work = Work(segments=1)

    def push(self, item: AudioChunk, /) -> Sequence[Transcript]:
        """Take audio; give what the blocks that it completes have changed."""
        if self._finished:
            raise RuntimeError("push after finish: open a new recognizer for the next turn")
        self._preview, self._previewed = None, []
        self._pending.append(item.samples)
        self._n_pending += len(item.samples)
        block = self._policy.grid.block * POSITION_HOP
        if self._n_pending < block:
            return ()
        audio = np.concatenate(self._pending)
        whole = len(audio) // block * block
        self._pending = [audio[whole:]]
        self._n_pending = len(audio) - whole
        return [self._step(audio[at : at + block]) for at in range(0, whole, block)]

    def preview(self) -> Preview:
        """What `finish` would commit, were the audio to end here.

        Nothing is committed. If no audio is pushed in between, `finish` reuses the result.
        """
        if self._preview is None:
            self._preview, self._previewed = self._speculate()
        return self._preview

    def finish(self) -> Sequence[Transcript]:
        """Commit all that is left."""
        spans = self.preview().spans
        self._finished = True
        self.work.tokens_committed += sum(len(span.ids) for span in spans)
        return (Transcript(committed=spans),)

    def revise(self) -> Revision | None:
        """Encode the segment anew, each position seeing all others, and decode it from its start.

        What streaming has made final, in the encoder and of the words, had seen less. In a slot of
        its own, so it leaves no trace. None also where the policy does not want it, where no word
        is in doubt, and where the text does not come to its end.
        """
        self.preview()
        n_heard, policy = self._n_whole, self._policy
        carried, kept, after = self._opened
        words = [*self._segment.committed[len(carried) :], *self._previewed]
        if not policy.revise or not policy.commit.in_doubt(words, n_heard):
            return None
        model = self._model
        spectrum, available = self._closed(n_heard, policy.closing.whole)
        slot = model.pool.take()
        with self._observer.span("encoder"):
            mel = spectrum.look(available, n_heard)
            encode(model.model, [Encode(slot, mel, 0, available)], whole=True)
        segment = self._segment_in(slot, carried)
        segment.draft = words  # verified in one pass, and decoded anew from the first that is other
        with self._observer.span("decoder"):
            outcome = segment.look(View(available, n_heard, True, spectrum.levels))
        self.work.positions_provisional += available
        self.work.decoder_passes += segment.passes
        if outcome.why not in ("end", "silence"):
            return None  # a guard ended it, perhaps in the middle: what was committed is safer
        return Revision(kept, self._spans(outcome.draft, after))

    def _step(self, audio: NDArray[np.float32]) -> Transcript:
        """One block."""
        grid, segment = self._policy.grid, self._segment
        self._samples += len(audio)
        self._spectrum.push(audio)
        heard = grid.heard(self._samples)
        self.work.positions_heard += heard - self._heard
        self._heard = heard
        available = heard - self._origin
        n_final = grid.n_final(available, segment.length)
        outcome, states = self._look(self._spectrum, available, n_final, available, final=False)
        self._edge = self._newest(states[:n_final])
        drafted = segment.take(outcome)
        self.work.tokens_committed += len(drafted)
        committed = self._spans(drafted)
        if committed:
            self._n_spans += len(committed)
            self._end = committed[-1].end
            self._progress = heard
        hypothesis = self._spans([] if segment.muted else segment.draft)
        if next_one := self._roll(available):
            self._begin(next_one)
        return Transcript(committed, hypothesis)

    def _look(
        self, spectrum: Spectrum, available: int, n_final: int, n_heard: int, *, final: bool
    ) -> tuple[Outcome, Tensor]:
        """Encode up to `available` and let the decoder look at it; the states are (n, d_model)."""
        segment = self._segment
        first, n = segment.length, available - segment.length
        if n <= 0:
            return Outcome(segment.draft), self._edge[:0]
        with self._observer.span("encoder"):
            mel = spectrum.look(available, n_heard)
            states = encode(self._model.model, [Encode(self._slot, mel, first, n)])[0]
        segment.length += n_final
        self.work.positions_final += n_final
        self.work.positions_provisional += n - n_final
        passes = segment.passes
        view = View(available, n_heard, final, spectrum.levels)
        with self._observer.span("decoder"):
            outcome = segment.peek(view) if final else segment.look(view)
        self.work.decoder_passes += segment.passes - passes
        return outcome, states

    def _newest(self, states: Tensor) -> Tensor:
        """The last states up to now, new ones included."""
        return torch.cat([self._edge, states])[-EDGE:]

    def _speculate(self) -> tuple[Preview, list[Drafted]]:
        """Decode to the end over the pending audio and silence.

        Leaves no trace: nothing becomes final, and the next block overwrites what was written.
        """
        n_heard = self._n_whole
        if n_heard <= 0:
            return Preview(), []
        spectrum, available = self._closed(n_heard, self._policy.closing.masked)
        first = self._segment.length
        outcome, states = self._look(spectrum, available, 0, n_heard, final=True)
        edge = self._newest(states[: max(0, n_heard - first)])
        return Preview(self._spans(outcome.draft), _ending(outcome, edge)), outcome.draft

    @property
    def _n_whole(self) -> int:
        """Positions of the segment's audio, what waits for a block included."""
        return (self._samples + self._n_pending) // POSITION_HOP - self._origin

    def _closed(self, n_heard: int, silence: int) -> tuple[Spectrum, int]:
        """The segment's spectrum with the pending audio and silence; positions to look at."""
        spectrum = self._spectrum.fork()
        zeros = np.zeros(silence * POSITION_HOP + N_FFT, np.float32)
        spectrum.push(np.concatenate([*self._pending, zeros]))
        return spectrum, min(n_heard + silence, self._model.model.dims.n_positions)

    def _roll(self, available: int) -> Roll | None:
        policy, segment, last = self._policy, self._segment, self._segment.last_position
        standing = Standing(
            committed=segment.committed,
            draft=segment.draft,
            length=segment.length,
            available=available,
            look_ahead=policy.grid.look_ahead,
            last=last,
            idle=self._heard - self._progress,
            unheard=self._spectrum.n_loud(last + policy.rolling.covered, policy.guards.loud),
        )
        return roll(standing, self._model.tokens, policy.rolling)

    def _begin(self, next_one: Roll) -> None:
        heard_again = self._segment.length - next_one.begin
        self._edge = self._edge[: max(0, len(self._edge) - heard_again)]
        self._spectrum.drop(next_one.begin)
        self._origin += next_one.begin
        self._opened = next_one.carried, self._n_spans, self._end
        self._progress = self._heard
        self._segment = self._open_segment(next_one.carried)
        self.work.segments += 1

    def _open_segment(self, carried: Sequence[Drafted]) -> Segment:
        return self._segment_in(self._slot, carried)

    def _segment_in(self, slot: Slot, carried: Sequence[Drafted]) -> Segment:
        policy = self._policy
        return Segment(
            slot,
            self._model.decoder,
            self._model.tokens,
            carried=carried,
            commit=policy.commit,
            guards=policy.guards if policy.guarded else None,
            drafting=policy.drafting,
        )

    def _spans(self, drafted: Sequence[Drafted], after: int | None = None) -> tuple[TokenSpan, ...]:
        return time_spans(
            drafted,
            self._model.tokens,
            self._policy.timing,
            origin=self._start + self._origin * POSITION_HOP,
            after=self._end if after is None else after,
            end=self._start + self._samples + self._n_pending,
        )


def _ending(outcome: Outcome, states: Tensor) -> Ending | None:
    """What a walk to the end tells of it; None where noise was taken for words."""
    word, last = outcome.after_word, outcome.after_all
    if word is None or last is None:
        return None
    full_stop, comma, question, exclamation = word.marks
    return Ending(
        end=word.end_logprob,
        full_stop=full_stop,
        comma=comma,
        question=question,
        exclamation=exclamation,
        closed=last.end_logprob,
        states=states.float().cpu().numpy(),
    )
