"""How a turn as a whole was said: its words' states, its sound, and what is usual for the speaker.

What is usual is taken as it was when the turn began, so a turn is not compared with itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from textpro_stream.contracts import (
    TokenSpan,
    ToneReading,
    has_words,
    samples_of_ms,
    seconds,
)
from textpro_stream.prosody.acoustics import Acoustics, Frames
from textpro_stream.prosody.pitch import F0_MIN_HZ
from textpro_stream.prosody.speaker import Speaker
from textpro_stream.prosody.tone import ToneHead

LEAST_TOKENS = 3  # of a stretch whose pace is told: one long word is not slow speech
PAUSE = samples_of_ms(300)  # between words; longer ones are no part of the pace
ENDING = samples_of_ms(1000)  # of a turn, in which its pitch may rise
LEAST_VOICED = 12  # frames of 10 ms in it, below which nothing is said of that


class TurnTone:
    """A turn's tone while it is heard. Of constant size.

    Args:
        head: what reads states; None: only what can be measured is told.
        usual: the speaker as the turn began.
    """

    def __init__(self, head: ToneHead | None, usual: Speaker) -> None:
        self._head, self._usual = head, usual
        self._total: NDArray[np.float32] | None = None
        self._n_states = self.n_tokens = 0
        self.talk = 0  # samples, longer pauses left out
        self._start = self._end = 0  # samples
        self._has_words = False

    def take(self, span: TokenSpan, states: NDArray[np.float32]) -> None:
        """A word that was committed; states (n_ids, d_prosody)."""
        total = states.sum(axis=0)
        if self._total is None:
            self._total, self._start, self._end = total, span.start, span.start
        else:
            self._total = self._total + total
        gap = max(0, span.start - self._end)
        self.talk += max(0, span.end - max(span.start, self._end)) + (gap if gap < PAUSE else 0)
        self._end = max(self._end, span.end)
        self._n_states += len(states)
        self.n_tokens += 1
        self._has_words = self._has_words or has_words(span.text)

    def reading(self, acoustics: Acoustics) -> ToneReading | None:
        """All of it; None where there were no words.

        Args:
            acoustics: of the conversation; of a turn longer than they reach back, the last part.
        """
        if self._total is None or not self._has_words:
            return None
        return read_tone(
            self._head,
            self._usual,
            (self._total / self._n_states).astype(np.float32),
            acoustics.between(self._start, self._end),
            n_tokens=self.n_tokens,
            talk_s=seconds(self.talk),
            rising=rise(acoustics.between(self._end - ENDING, self._end + ENDING // 10)),
        )


def read_tone(
    head: ToneHead | None,
    usual: Speaker,
    state: NDArray[np.float32],
    sound: Frames,
    *,
    n_tokens: int,
    talk_s: float,
    rising: float | None = None,
) -> ToneReading:
    """One stretch of speech against the speaker's usual.

    Args:
        head: what reads states.
        usual: what was known of the speaker before.
        state: mean over the stretch's tokens, (d_prosody,).
        sound: of the stretch.
        n_tokens: words' tokens in it; too few tell no pace.
        talk_s: for how long they were said, longer pauses left out.
        rising: of a stretch that ends as its speaker wanted it to.
    """
    voiced = sound.f0_hz > 0
    pitch = loudness = None
    if usual.is_known and voiced.any():
        pitch = usual.semitones(float(np.median(sound.f0_hz[voiced])))
        loudness = usual.decibels(float(levels_db(sound).mean()))
    return ToneReading(
        arousal=head.arousal(state) if head else None,
        pitch=pitch,
        loudness=loudness,
        pace=usual.pace(n_tokens, talk_s) if n_tokens >= LEAST_TOKENS else None,
        rising=rising,
        emotion=head.emotion(state) if head else {},
    )


def levels_db(sound: Frames) -> NDArray[np.float64]:
    """Loudness of the voiced frames, dBFS: pauses say nothing about it."""
    found: NDArray[np.float64] = 10 * np.log10(
        sound.power[sound.f0_hz > 0].astype(np.float64) + 1e-12
    )
    return found


def rise(ending: Frames) -> float | None:
    """Semitones by which the last third of the voice stands above the rest; None if too short."""
    f0_hz = ending.f0_hz[ending.f0_hz > 0]
    if len(f0_hz) < LEAST_VOICED:
        return None
    tones = 12 * np.log2(f0_hz / F0_MIN_HZ)
    n_last = len(tones) // 3
    return float(np.median(tones[-n_last:]) - np.median(tones[:-n_last]))
