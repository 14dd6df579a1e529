"""Replies on a loudspeaker: played as they come, ducked, stopped, accounted for."""

from __future__ import annotations

import asyncio

from textpro_stream.audio.speaker import Loudspeaker
from textpro_stream.commands import Played
from textpro_stream.events import Event, ReplyAudio, ReplyDucked, ReplyEnded
from textpro_stream.ports import Talk

REPORT_S = 0.05  # between reports of what was heard


class Player:
    """Between a conversation and a loudspeaker."""

    def __init__(self, talk: Talk, loudspeaker: Loudspeaker) -> None:
        self._talk, self._loudspeaker = talk, loudspeaker
        self._playing: int | None = None  # the turn whose reply is being given

    def take(self, event: Event) -> None:
        """Do what an event asks of a loudspeaker."""
        match event:
            case ReplyAudio(turn=turn, chunk=chunk):
                self._loudspeaker.play(chunk)
                self._playing = turn
            case ReplyDucked(ducked=ducked):
                self._loudspeaker.duck(ducked)
                self._tell()  # an interruption may follow, and crops to what was heard
            case ReplyEnded(reason="barge_in" | "cancelled"):
                self._loudspeaker.clear()
                self._loudspeaker.duck(False)
                self._playing = None
            case ReplyEnded():
                self._loudspeaker.end()
                self._playing = None
            case _:
                pass

    async def report(self) -> None:
        """Tell the conversation what was heard, for as long as this runs."""
        while True:
            await asyncio.sleep(REPORT_S)
            self._tell()

    def _tell(self) -> None:
        if self._playing is not None:
            self._talk.push_nowait(Played(self._playing, self._loudspeaker.heard))
