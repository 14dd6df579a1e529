"""The streaming recognizer: audio of one turn in, committed words and an open tail out.

Audio is cut into blocks of a fixed grid, whatever sizes it arrives in, so how the transport cuts
it changes when a word appears, never which. A segment holds at most one Whisper window; at a pause
the recognizer rolls to a new one that hears the last words again, so that work and memory stay
bounded for speech of any length. Knows nothing of turns or VAD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textpro_stream.config import WhisperOptions
from textpro_stream.contracts import (
    POSITION_HOP,
    SAMPLE_RATE,
    AudioChunk,
    TokenSpan,
    Transcript,
    samples_of_ms,
)
from textpro_stream.linear import Vocabulary
from textpro_stream.ports import Observer
from textpro_stream.telemetry.trace import Unobserved
from textpro_stream.whisper.decoder import DecoderState
from textpro_stream.whisper.encoder import EncoderState
from textpro_stream.whisper.mel import MelStream, mel_filters, normalise
from textpro_stream.whisper.segment import Drafted, Outcome, Segment, View
from textpro_stream.whisper.tokens import Tokens
from textpro_stream.whisper.weights import load_weights

WINDOW = 1500  # positions: what Whisper was trained on
STALLED = 200  # positions without a commit after which the decoder is given a fresh start: 4 s
UNHEARD = 50  # positions of speech that must lie there for it: 1 s
ROLL_SOFT = 600  # positions after which a pause ends the segment: 12 s
ROLL_HARD = 1100  # positions after which any word boundary does: 22 s
ROLL_REACH = 400  # positions that a new segment may reach back: bounds the work of a roll
CARRIED = 100  # positions of audio that the next segment hears again, words forced: 2 s
FORGOTTEN = 150  # positions without a word after which none need be heard again: 3 s
WARM = 94  # positions heard before the first becomes final: early ones see too little else
SILENCE = 10 * SAMPLE_RATE  # added at the end: after 2 s of it some clips loop, after 10 s none
LEAD = 8  # positions before the attended one at which a token begins
LAG = 6  # positions behind it at which a token ends when nothing follows at once
LOUD = 2.2  # log10 units below the loudest bin at which a position still counts as speech
FAINT = 4.0  # the same for the last sounds of a word
FLOOR = 0.0  # least maximum of the log-mel, so that silence at the start is not scaled up


@dataclass(slots=True)
class Work:
    """Counters that must not grow faster than the audio."""

    positions_final: int = 0  # encoded for good
    positions_provisional: int = 0  # encoded as look-ahead, or for a preview
    positions_heard: int = 0  # of audio
    decoder_passes: int = 0
    tokens_committed: int = 0
    segments: int = 0


class WhisperPro:
    """Weights and vocabulary, shared by all conversations."""

    def __init__(self, folder: Path, options: WhisperOptions, device: torch.device) -> None:
        self.options = options
        self.weights = load_weights(folder, options.dtype, device)
        dims = self.weights.dims
        self.tokens = Tokens(folder, dims.n_vocabulary)
        self.vocabulary = Vocabulary(self.weights.embedding, int8=device.type == "cpu")
        self.filters = mel_filters(dims.n_mels).to(device)

    @classmethod
    def load(cls, folder: Path, options: WhisperOptions, device: torch.device) -> WhisperPro:
        """Read a model folder.

        Raises:
            WeightsError: the folder does not hold a Whisper.
        """
        with torch.inference_mode():
            return cls(folder, options, device)

    @property
    def d_prosody(self) -> int:
        """Width of a token's prosody state."""
        return self.weights.dims.d_model

    def open(
        self, start: int = 0, observer: Observer | None = None, *, offline: bool = False
    ) -> Recognizer:
        """A recognizer for one turn.

        Args:
            start: sample index of the first sample that it will be given.
            observer: told when the encoder and the decoder are busy.
            offline: one push, one finish, whole windows, no guards: the model as its makers run
                it, through the same code.
        """
        return Recognizer(self, start, observer or Unobserved(), offline=offline)

    def segment(
        self, carried: Sequence[Drafted], *, guards: bool, after: Segment | None = None
    ) -> Segment:
        """An empty segment; one that comes `after` another takes over its memory."""
        if after is None:
            encoder = EncoderState(self.weights)
            decoder = DecoderState(self.weights, self.vocabulary, tokens=self.tokens)
        else:
            encoder, decoder = after.encoder, after.decoder
            encoder.length = decoder.n_positions = 0
        return Segment(
            encoder,
            decoder,
            self.tokens,
            carried=carried,
            commit=self.options.commit,
            guards=guards,
        )


class Recognizer:
    """A `Stage`: `AudioChunk` in, `Transcript` out. One turn, one thread."""

    def __init__(
        self, model: WhisperPro, start: int, observer: Observer, *, offline: bool = False
    ) -> None:
        options = model.options
        self._model, self._start, self._observer, self._offline = model, start, observer, offline
        self._block = samples_of_ms(options.block_ms)
        self._look_ahead = samples_of_ms(options.look_ahead_ms) // POSITION_HOP
        self._pending: list[NDArray[np.float32]] = []  # not yet a whole block
        self._n_pending = 0
        self._mel = MelStream(model.filters)
        self._frames = model.filters.new_zeros(0, len(model.filters))  # of the segment
        self._maximum = -np.inf if offline else FLOOR
        self._origin = 0  # position of the segment's first
        self._heard = 0  # positions complete so far, from the stream's start
        self._samples = 0
        self._segment = model.segment((), guards=options.guards and not offline)
        self._end = start  # samples: end of the last committed span
        self._preview: list[Drafted] | None = None
        self._progress = 0  # positions heard when a word was last committed
        self._finished = False
        self.work = Work(segments=1)

    def push(self, item: AudioChunk, /) -> Sequence[Transcript]:
        """Take audio; give what the blocks that it completes have changed."""
        if self._finished:
            raise RuntimeError("push after finish: open a new recognizer for the next turn")
        self._preview = None
        self._pending.append(item.samples)
        self._n_pending += len(item.samples)
        if self._offline or self._n_pending < self._block:
            return ()
        audio = np.concatenate(self._pending)
        whole = len(audio) // self._block * self._block
        self._pending = [audio[whole:]]
        self._n_pending = len(audio) - whole
        with torch.inference_mode():
            return [self._step(audio[i : i + self._block]) for i in range(0, whole, self._block)]

    def preview(self) -> tuple[TokenSpan, ...]:
        """What `finish` would commit, were the audio to end here.

        Nothing is committed. If no audio is pushed in between, `finish` reuses the result.
        """
        end = self._end
        spans = self._spans(self._ending())
        self._end = end
        return spans

    def finish(self) -> Sequence[Transcript]:
        """Commit all that is left."""
        drafted = self._ending()
        self._finished = True
        self.work.tokens_committed += len(drafted)
        spans = self._spans(drafted)
        return (Transcript(committed=spans),)

    def _step(self, audio: NDArray[np.float32]) -> Transcript:
        """One block."""
        self._samples += len(audio)
        self._frames = torch.cat([self._frames, self._mel.push(audio)])
        heard = max(0, (self._samples - 520) // POSITION_HOP + 1)  # a position reads 320 j + 520
        self.work.positions_heard += heard - self._heard
        self._heard = heard
        available = heard - self._origin
        n_final = max(0, available - self._look_ahead - self._segment.encoder.length)
        if available < WARM:
            n_final = 0
        outcome = self._look(
            self._segment, self._frames, available, n_final, available, final=False
        )
        drafted = self._segment.take(outcome)
        self.work.tokens_committed += len(drafted)
        committed = self._spans(drafted)
        end = self._end
        hypothesis = self._spans([] if self._segment.muted else self._segment.draft)
        self._end = end
        if drafted:
            self._progress = heard
        self._roll(available)
        return Transcript(committed, hypothesis)

    def _look(
        self,
        segment: Segment,
        frames: Tensor,
        available: int,
        n_final: int,
        n_heard: int,
        *,
        final: bool,
        peek: bool = False,
    ) -> Outcome:
        """Encode up to `available` and let the decoder look at it."""
        encoder, decoder = segment.encoder, segment.decoder
        first = encoder.length
        n = available - first
        if n <= 0:
            return Outcome(segment.draft)
        loudness = frames[: 2 * n_heard].amax(1)
        self._maximum = max(self._maximum, float(loudness.max()))
        with self._observer.span("encoder"):
            mel = normalise(frames[: 2 * available + 2], self._maximum)
            states = encoder.step(encoder.stem(mel, first, n), n_final)
        self.work.positions_final += n_final
        self.work.positions_provisional += n - n_final
        level = loudness.view(-1, 2).amax(1) - self._maximum
        with self._observer.span("decoder"):
            decoder.hear(states, first)
            passes = decoder.passes
            view = View(n_heard, (level > -LOUD).tolist(), (level > -FAINT).tolist(), final)
            outcome = segment.peek(view) if peek else segment.look(view)
        self.work.decoder_passes += decoder.passes - passes
        return outcome

    def _ending(self) -> list[Drafted]:
        """What is left to commit if nothing more comes."""
        if self._preview is None:
            with torch.inference_mode():
                self._preview = self._decode_offline() if self._offline else self._speculate()
        return self._preview

    def _speculate(self) -> list[Drafted]:
        """Decode to the end over the pending audio and silence.

        Leaves no trace: nothing becomes final, and the next block overwrites what was written.
        """
        segment = self._segment
        pending = np.concatenate([*self._pending, np.zeros(SILENCE + 400, np.float32)])
        frames = torch.cat([self._frames, self._mel.fork().push(pending)])
        n_heard = (self._samples + self._n_pending) // POSITION_HOP - self._origin
        if self._samples + self._n_pending == 0 or n_heard <= 0:
            return []
        available = min(n_heard + SILENCE // POSITION_HOP, WINDOW)
        maximum = self._maximum
        outcome = self._look(segment, frames, available, 0, n_heard, final=True, peek=True)
        self._maximum = maximum
        return outcome.draft

    def _decode_offline(self) -> list[Drafted]:
        """Whole windows of 30 s, each from its own start, as openai-whisper pads them."""
        audio = np.concatenate(self._pending) if self._pending else np.zeros(0, np.float32)
        if len(audio) < POSITION_HOP:
            return []
        window = WINDOW * POSITION_HOP
        padded = np.concatenate([audio, np.zeros(window, np.float32)])
        frames = self._mel.push(padded)
        total = len(audio) // POSITION_HOP
        self.work.positions_heard = total
        drafted: list[Drafted] = []
        origin = 0
        while True:
            segment = self._model.segment((), guards=False)
            part = frames[2 * origin : 2 * (origin + WINDOW)]
            self._maximum = float(part.max())
            n_heard = min(WINDOW, total - origin)
            outcome = self._look(segment, part, WINDOW, WINDOW, n_heard, final=True)
            last = total - origin <= WINDOW
            kept = outcome.draft
            if not last:  # words near the window's end are heard better in the next
                kept = _before(kept, WINDOW - 50, self._model.tokens)
            drafted += [Drafted(d.token, d.position + origin, d.logprob, d.state) for d in kept]
            if last:
                return drafted
            origin += max(50, kept[-1].position + 8 if kept else WINDOW)
            self.work.segments += 1

    def _roll(self, available: int) -> None:
        """Begin a new segment at a pause, or at a word boundary when it must be."""
        segment, tokens = self._segment, self._model.tokens
        length = segment.encoder.length
        if segment.committed and self._heard - self._progress >= STALLED and self._unheard(segment):
            self._begin(self._origin + min(segment.last_position + 6, length), ())
            return
        if length < ROLL_SOFT:
            return
        gap = available - segment.last_position  # nothing was said in it
        silent = not segment.draft and gap > FORGOTTEN
        if silent or (not segment.committed and length > ROLL_HARD):
            self._begin(self._origin + max(0, available - self._look_ahead - 25), ())
            return
        if not segment.committed:
            return
        last = segment.committed[-1]
        gap = available - last.position
        at_word = not segment.draft or tokens.starts_word(segment.draft[0].token)
        paused = gap > 40 or (tokens.is_punctuation(last.token) and gap > self._look_ahead + 10)
        must = length > ROLL_HARD and (at_word or length > ROLL_HARD + 250)
        if not (at_word and paused) and not must:
            return
        cut = last.position + (12 if gap > 40 else 6)
        cut = min(max(cut, length - ROLL_REACH), length)
        words = segment.committed
        first = len(words)
        for i in range(len(words) - 1, -1, -1):
            if words[i].position < cut - CARRIED:
                break
            if tokens.starts_word(words[i].token):
                first = i
        begin = max(0, words[first].position - 12) if first < len(words) else max(0, cut - CARRIED)
        carried = [
            Drafted(d.token, max(0, d.position - begin), d.logprob, d.state) for d in words[first:]
        ]
        self._begin(self._origin + begin, carried)

    def _unheard(self, segment: Segment) -> bool:
        """Whether there is speech, and enough of it, behind the last committed word."""
        loudness = self._frames[2 * (segment.last_position + 12) :].amax(1)
        return int((loudness > self._maximum - LOUD).sum()) > 2 * UNHEARD

    def _begin(self, origin: int, carried: Sequence[Drafted]) -> None:
        self._frames = self._frames[2 * (origin - self._origin) :]
        self._origin = origin
        self._progress = self._heard
        guards = self._model.options.guards
        self._segment = self._model.segment(carried, guards=guards, after=self._segment)
        self.work.segments += 1

    def _spans(self, drafted: Sequence[Drafted]) -> tuple[TokenSpan, ...]:
        """Tokens as spans of whole characters with times that never go back."""
        sizes = self._model.tokens.whole_characters([d.token for d in drafted])
        spans: list[TokenSpan] = []
        heard = self._start + self._samples + self._n_pending  # no word ends after the audio
        at = 0
        for size in sizes:
            run = drafted[at : at + size]
            at += size
            following = drafted[at].position if at < len(drafted) else None
            first = self._sample(run[0].position - LEAD)
            end = self._sample(run[-1].position + LAG)
            if following is not None:
                end = min(end, self._sample(following))
            begin = max(self._end, first)
            end = min(max(begin, end), heard)
            begin = min(begin, end)
            self._end = end
            spans.append(
                TokenSpan(
                    ids=tuple(d.token for d in run),
                    text=self._model.tokens.text([d.token for d in run]),
                    start=begin,
                    end=end,
                    logprob=sum(d.logprob for d in run) / len(run),
                    states=torch.stack([d.state for d in run]),
                )
            )
        return tuple(spans)

    def _sample(self, position: int) -> int:
        return self._start + max(0, self._origin + position) * POSITION_HOP


def _before(drafted: list[Drafted], position: int, tokens: Tokens) -> list[Drafted]:
    """The words that end before a position; at least one, so that a window always moves on."""
    n = len(drafted)
    while n > 1 and (
        drafted[n - 1].position >= position
        or (n < len(drafted) and not tokens.starts_word(drafted[n].token))
    ):
        n -= 1
    return drafted[:n]
