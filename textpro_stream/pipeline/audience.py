"""Who hears the replies of one conversation, and whether speech may interrupt them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Audience:
    """One fact for all: the pace of audio, how long a reply lasts, what barge-in may do.

    Attributes:
        listens: somebody hears replies at the pace of speech: audio is given out only a little
            ahead of them, and a reply lasts until its sound has been heard. False for files, and
            once no more input comes.
        may_interrupt: speech over a reply stops it (`[turn] barge_in`).
    """

    listens: bool
    may_interrupt: bool
