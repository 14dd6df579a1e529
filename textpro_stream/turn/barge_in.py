"""Barge-in: is the person taking the turn back while the reply plays?

Two stages, so that a cough costs a dip in volume and not the reply: duck when a voice begins; when
it lasts, ask what it says, and stop unless that is no word or one that only means "go on". A pure
state machine on frames. It knows no audio: echo is cancelled at the edge, and what slips through is
caught by `echoes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import SequenceMatcher
from typing import Literal

from textpro_stream.config import TurnOptions
from textpro_stream.contracts import FRAME, has_words, samples_of_ms

BargeInSignal = Literal["duck", "unduck", "stop"]

_DUCK = samples_of_ms(60)  # two detector windows: one alone is a click
# Longer than the gap between two words, shorter than a person waits for the volume to come back.
_UNDUCK = samples_of_ms(400)
# Voice without a word, or with "mm-hmm" alone, is asked about again after so much more of it ...
_AGAIN = samples_of_ms(160)
# ... and stops the reply once it lasted so many times what is asked first: 1.2 s by default, and
# laughter is shorter, and so is "yeah, okay".
_LIMIT = 6
_WORD = re.compile(r"[a-z0-9]+")
# "I am listening", or laughter, over the reply; it wants the reply to go on.
_BACKCHANNELS = frozenset(
    word
    for words in (
        "ah aha hm hmm huh mhm mm mmhm mmhmm oh uh uhhuh um ha haha heh",
        "okay ok right sure yeah yep yes",
    )
    for word in words.split()
)


class BargeIn:
    """One conversation's barge-in.

    Signals alternate: `duck`, then `unduck` or `stop`; after `stop` nothing until the next reply.
    """

    def __init__(self, options: TurnOptions) -> None:
        self.configure(options)
        self._ducked = False
        self._stopped = False
        self._voiced = 0  # samples of voice since this onset
        self._silent = 0  # samples since the last voice
        self._asked = 0  # samples of voice when its words were last asked for

    def configure(self, options: TurnOptions) -> None:
        """Other limits from here on."""
        self._threshold = options.threshold
        self._sustained = samples_of_ms(options.barge_in_ms)

    @property
    def ducked(self) -> bool:
        """The reply plays quietly until it is clear who goes on."""
        return self._ducked

    def push(
        self,
        voice: float,
        interruptible: bool,
        words: str = "",
        overhear: Callable[[], str | None] = lambda: None,
    ) -> BargeInSignal | None:
        """Take one frame.

        Args:
            voice: speech probability of the frame (`Endpointer.voice`).
            interruptible: reply audio is playing, and speech may stop it.
            words: text that the recognizer committed with this frame.
            overhear: all words of this voice so far, asked for only when they decide; None where
                nobody can tell, and sound alone has to do.
        """
        if not interruptible:
            ducked = self._ducked
            self._ducked = self._stopped = False
            self._voiced = self._silent = self._asked = 0
            return "unduck" if ducked else None
        if self._stopped:
            return None
        self._count(voice)
        if (words.strip() and not is_backchannel(words)) or self._lasts(overhear):
            self._stopped, self._ducked = True, False
            return "stop"
        if not self._ducked and self._voiced >= _DUCK:
            self._ducked = True
            return "duck"
        if self._ducked and self._voiced == 0:
            self._ducked = False
            return "unduck"
        return None

    def _lasts(self, overhear: Callable[[], str | None]) -> bool:
        """Whether this voice has lasted, and is more than a sound or an "mm-hmm"."""
        if self._voiced < max(self._sustained, self._asked + _AGAIN if self._asked else 0):
            return False
        self._asked = max(self._voiced, 1)
        said = overhear()
        nothing = said is not None and (is_backchannel(said) or not has_words(said))
        return not nothing or self._voiced >= _LIMIT * self._sustained

    def _count(self, voice: float) -> None:
        """Add up voice over the gaps between words; a longer silence forgets it."""
        if voice >= self._threshold:
            self._voiced += FRAME
            self._silent = 0
        else:
            self._silent += FRAME
            if not self._ducked or self._silent >= _UNDUCK:
                self._voiced = self._asked = 0


def is_backchannel(text: str) -> bool:
    """Whether the words only say "go on": "mm-hmm", "yeah, okay". Empty text does not."""
    words = _words(text.replace("-", ""))
    return bool(words) and all(word in _BACKCHANNELS for word in words)


def echoes(heard: str, reply: str) -> bool:
    """Whether a user's turn is the reply itself, come back through the microphone.

    True if four fifths of at least four words occur in the reply in the same order, close
    together. A person who quotes so much of a reply within seconds is rarer than a loudspeaker
    without echo cancellation. The caller knows how long ago the reply was.
    """
    said, spoken = _words(heard), _words(reply)
    if len(said) < 4:  # "yes it is" may well be in the reply, and meant
        return False
    blocks = SequenceMatcher(None, said, spoken, autojunk=False).get_matching_blocks()
    found = [block for block in blocks if block.size]
    matched = sum(block.size for block in found)
    if matched < 0.8 * len(said):
        return False
    stretch = found[-1].b + found[-1].size - found[0].b  # words of the reply that it spans
    return stretch <= 1.5 * len(said)


def _words(text: str) -> list[str]:
    return _WORD.findall(
        text.lower().replace("'", "").replace("\N{RIGHT SINGLE QUOTATION MARK}", "")
    )
