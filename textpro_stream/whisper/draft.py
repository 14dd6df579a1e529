"""Values that the rules speak of: drafted tokens, what a step may look at, what it led to.

Positions are counted from the segment's origin, 20 ms each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from textpro_stream.whisper.decoding import Choice

Why = Literal[
    "unheard",  # there was nothing new to hear
    "end",  # the model saw an end of text
    "edge",  # a token attends to where the audio ends
    "silence",  # nothing loud follows the last word
    "beyond",  # a token attends to the silence added after the audio
    "back",  # tokens attend to what has been said already
    "stuck",  # tokens attend to one place
    "pace",  # more tokens than anybody says in that time
    "loop",  # the same tokens over and over
    "full",  # the decoder's context has no more places
    "no_speech",  # noise put into words
]


@dataclass(frozen=True, slots=True, eq=False)
class Drafted:
    """A token that the decoder has proposed."""

    token: int
    position: int  # attended
    logprob: float
    state: Tensor  # (d_model,) float32 middle decoder layer, on the host


@dataclass(slots=True)
class Outcome:
    """What one step of the decoder led to."""

    draft: list[Drafted] = field(default_factory=list)
    why: Why = "unheard"  # what ended the walk
    after_word: Choice | None = None  # behind the last token that is no mark
    after_all: Choice | None = None  # behind the last token
    n_agreed: int = 0  # of the draft, safe to commit


@dataclass(slots=True)
class View:
    """What a segment may look at in one step."""

    n_encoded: int  # positions that the decoder attends to
    n_heard: int  # of them backed by audio rather than by added silence
    final: bool  # no more audio will come
    levels: Callable[[], NDArray[np.float32]]  # (n_heard,) log10 against the loudest; on the host
