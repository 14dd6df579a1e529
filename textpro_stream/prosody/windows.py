"""Words with their states, and the sound they came from -> sliding windows of prosody.

A turn's windows begin at its first word and follow each other by the hop. A window is emitted once
the words have passed its end, or the turn is over; it never changes afterwards, and stretches
without words have none. With a turn's last window comes the tone of the turn as a whole. Knows
nothing of the LLM that will read them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from textpro_stream.config import ProsodyOptions
from textpro_stream.contracts import (
    ListenedFrame,
    ProsodyWindow,
    TokenSpan,
    ToneReading,
    samples_of_ms,
    seconds,
)
from textpro_stream.prosody.acoustics import Acoustics, Frames, dbfs
from textpro_stream.prosody.speaker import Speaker
from textpro_stream.prosody.tone import ToneHead
from textpro_stream.prosody.turn_tone import TurnTone, levels_db, read_tone

SHORTEST = samples_of_ms(200)  # of sound described: the recognizer gives some words no length


@dataclass(frozen=True, slots=True, eq=False)
class _Word:
    """A token span, reduced to what windows need."""

    start: int
    end: int
    middle: int  # decides which windows it belongs to; never before that of the last word
    total: NDArray[np.float32]  # (d_prosody,), sum of its token states
    n_states: int


class ProsodyTracker:
    """One conversation's prosody. The speaker's habits are kept from turn to turn.

    Memory is bounded: acoustics of the last 40 s, and the words of one window.

    Args:
        options: `[prosody]`.
        head: what reads emotion and arousal off the states; None: they are not told.
    """

    def __init__(self, options: ProsodyOptions, head: ToneHead | None = None) -> None:
        self._tone, self._head = options.tone, head
        self._length, self._hop = samples_of_ms(options.window_ms), samples_of_ms(options.hop_ms)
        self._acoustics = Acoustics()
        self._speaker = Speaker()
        self._words: deque[_Word] = deque()
        self._start = 0  # of the next window; has a meaning while there are words
        self._judged = 0  # samples whose sound the speaker's habits know
        self._turn: TurnTone | None = None  # from a turn's first word on, if tone is wanted

    def push(self, heard: ListenedFrame) -> Sequence[ProsodyWindow | ToneReading]:
        """Take a frame and the words committed with it; give the windows they completed."""
        self._acoustics.push(heard.chunk.samples)
        for span in heard.committed:
            self._take(span)
        if heard.ends_turn:
            return self._close()
        return self._windows(closing=False) if self._words else []

    def finish(self) -> Sequence[ProsodyWindow | ToneReading]:
        """The stream ended; give the rest."""
        return self._close()

    def tone(self, tail: Sequence[TokenSpan]) -> ToneReading | None:
        """How the open turn sounds, were these words its last ones. Changes nothing."""
        if not self._tone:
            return None
        turn = copy(self._turn) if self._turn else TurnTone(self._head, self._speaker.copy())
        for span in tail:
            turn.take(span, _states(span))
        return turn.reading(self._acoustics)

    def _close(self) -> list[ProsodyWindow | ToneReading]:
        """The rest of a turn."""
        found: list[ProsodyWindow | ToneReading] = [*self._windows(closing=True)]
        turn, self._turn = self._turn, None
        if turn is not None:
            reading = turn.reading(self._acoustics)
            if reading is not None:
                self._speaker.hear_words(turn.n_tokens, seconds(turn.talk))
                found.append(reading)
        return found

    def _take(self, span: TokenSpan) -> None:
        states = _states(span)
        if self._tone:
            self._turn = self._turn or TurnTone(self._head, self._speaker.copy())
            self._turn.take(span, states)
        middle = (span.start + span.end) // 2
        if self._words:
            middle = max(middle, self._words[-1].middle)
        else:
            self._start = span.start
        end = max(span.end, middle)
        self._words.append(_Word(span.start, end, middle, states.sum(axis=0), len(states)))

    def _windows(self, *, closing: bool) -> list[ProsodyWindow]:
        windows = []
        while self._words:
            end = self._start + self._length
            passed = self._words[-1].middle >= end
            inside = [word for word in self._words if word.middle < end]
            if not (passed or closing):
                break
            if inside:
                stretch = _stretch(inside, self._start, end)
                if not closing and self._acoustics.end() < stretch[1]:
                    break
                windows.append(self._window(inside, stretch))
            if not passed:
                self._words.clear()
                break
            self._start += self._hop
            while self._words[0].middle < self._start:
                self._words.popleft()
        return windows

    def _window(self, words: Sequence[_Word], stretch: tuple[int, int]) -> ProsodyWindow:
        """Describe words by their states, and by the sound from the first to the last of them."""
        start, end = stretch
        sound = self._acoustics.between(start, end)
        states = np.sum([word.total for word in words], axis=0)
        state = (states / sum(word.n_states for word in words)).astype(np.float32)
        tone = self._reading(state, sound, len(words), seconds(end - start))
        self._learn(start, end)
        voiced = sound.f0_hz > 0
        f0_hz = float(np.median(sound.f0_hz[voiced])) if voiced.any() else None
        levels = levels_db(sound)
        return ProsodyWindow(
            start=self._start,
            end=self._start + self._length,
            n_tokens=len(words),
            embedding=state,
            f0_hz=f0_hz,
            f0_semitones=None if f0_hz is None else self._speaker.semitones(f0_hz),
            energy_dbfs=dbfs(float(sound.power.mean()) if len(sound.power) else 0.0),
            energy_z=self._speaker.deviations(float(levels.mean())) if len(levels) else 0.0,
            rate_tps=len(words) / seconds(end - start),
            tone=tone,
        )

    def _reading(
        self, state: NDArray[np.float32], sound: Frames, n_tokens: int, talk_s: float
    ) -> ToneReading | None:
        """Against what was known before; a window ends anywhere, so nothing of how it ends."""
        if not self._tone:
            return None
        return read_tone(self._head, self._speaker, state, sound, n_tokens=n_tokens, talk_s=talk_s)

    def _learn(self, start: int, end: int) -> None:
        """Show the speaker's new voiced sound to the running statistics, each frame once."""
        new = self._acoustics.between(max(start, self._judged), end)
        self._speaker.hear(new.f0_hz[new.f0_hz > 0], levels_db(new))
        self._judged = max(self._judged, end)


def _stretch(words: Sequence[_Word], start: int, end: int) -> tuple[int, int]:
    """From the first to the last of a window's words, as far as it is in the window."""
    first = max(start, min(word.start for word in words))
    last = min(end, max(word.end for word in words))
    missing = max(0, SHORTEST - (last - first))
    return first - missing // 2, last + missing - missing // 2


def _states(span: TokenSpan) -> NDArray[np.float32]:
    assert span.states is not None, "a spoken word has states"
    states: NDArray[np.float32] = span.states.float().numpy()  # on the host: read with the choices
    return states
