"""Whole clips in whole windows, as openai-whisper pads them: what streaming is measured against.

The same modules, the same decoder and the same spans as streaming; no mask, no blocks, no guards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import (
    MEL_HOP,
    POSITION_HOP,
    AudioChunk,
    TokenSpan,
    Transcript,
)
from textpro_stream.ports import Observer
from textpro_stream.whisper.commit import CommitRule
from textpro_stream.whisper.decoding import Encode, encode
from textpro_stream.whisper.draft import Drafted, View
from textpro_stream.whisper.mel import MelStream, normalise
from textpro_stream.whisper.segment import Drafting, Segment
from textpro_stream.whisper.timing import Timing, time_spans
from textpro_stream.whisper.tokens import Tokens
from textpro_stream.whisper.work import Work

if TYPE_CHECKING:
    from textpro_stream.whisper.whisper_pro import WhisperPro

SEAM = 50  # positions at a window's end whose words the next window hears better: 1 s
BEHIND = 8  # positions behind the last word kept at which the next window begins: 0.16 s


class Offline:
    """A `Stage`: audio in, everything out at the end.

    Args:
        model: shared.
        observer: told when the encoder and the decoder are busy.
    """

    def __init__(self, model: WhisperPro, observer: Observer) -> None:
        self._model, self._observer = model, observer
        self._audio: list[NDArray[np.float32]] = []
        self.work = Work()

    def push(self, item: AudioChunk, /) -> Sequence[Transcript]:
        """Take audio."""
        self._audio.append(item.samples)
        return ()

    def finish(self) -> Sequence[Transcript]:
        """Recognise all of it."""
        return (Transcript(committed=self._recognize()),)

    def _recognize(self) -> tuple[TokenSpan, ...]:
        audio = np.concatenate([np.zeros(0, np.float32), *self._audio])
        total = len(audio) // POSITION_HOP
        if total == 0:
            return ()
        window = self._model.model.dims.n_positions
        silence = np.zeros(window * POSITION_HOP, np.float32)
        frames = MelStream(self._model.filters).push(np.concatenate([audio, silence]))
        slot = self._model.pool.take()
        self.work.positions_heard = total
        drafted: list[Drafted] = []
        origin = 0
        while True:
            mel = frames[2 * origin :][: window * POSITION_HOP // MEL_HOP]
            mel = normalise(mel, mel.max())
            with self._observer.span("encoder"):
                encode(self._model.model, [Encode(slot, mel, 0, window)], whole=True)
            segment = Segment(
                slot,
                self._model.decoder,
                self._model.tokens,
                commit=CommitRule(),
                guards=None,
                drafting=Drafting(),
            )
            view = View(window, min(window, total - origin), True, lambda: np.zeros(0, np.float32))
            with self._observer.span("decoder"):
                kept = segment.look(view).draft
            self.work.segments += 1
            self.work.positions_final += window
            self.work.decoder_passes += segment.passes
            last = total - origin <= window
            if not last:  # words near the window's end are heard better in the next
                kept = _before(kept, window - SEAM, self._model.tokens)
            drafted += [replace(d, position=d.position + origin) for d in kept]
            if last:
                break
            origin += max(SEAM, kept[-1].position + BEHIND if kept else window)
        self.work.tokens_committed = len(drafted)
        return time_spans(drafted, self._model.tokens, Timing(), origin=0, after=0, end=len(audio))


def _before(drafted: list[Drafted], position: int, tokens: Tokens) -> list[Drafted]:
    """The words that end before a position; at least one, so that a window always moves on."""
    n = len(drafted)
    while n > 1 and (
        drafted[n - 1].position >= position
        or (n < len(drafted) and not tokens.starts_word(drafted[n].token))
    ):
        n -= 1
    return drafted[:n]
