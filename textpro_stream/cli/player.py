"""Replies on a loudspeaker: played as they come, ducked, stopped, accounted for."""

from __future__ import annotations

import asyncio

from textpro_stream.audio.speaker import Loudspeaker
from textpro_stream.events import Event, ReplyAudio, ReplyDucked, ReplyEnded
from textpro_stream.pipeline import Conversation

REPORT_S = 0.05  # between reports of what was heard; a barge-in crops to whole words anyway


class Player:
    """Between a conversation and a loudspeaker."""

    def __init__(self, talk: Conversation, loudspeaker: Loudspeaker) -> None:
        self._talk, self._loudspeaker = talk, loudspeaker
        self._playing = False  # the loudspeaker is at the reply that is being given

    def take(self, event: Event) -> None:
        """Do what an event asks of a loudspeaker."""
        match event:
            case ReplyAudio(chunk=chunk):
                self._loudspeaker.play(chunk)
                self._playing = True
            case ReplyDucked(ducked=ducked):
                self._loudspeaker.duck(ducked)
            case ReplyEnded(reason="barge_in" | "cancelled"):
                self._loudspeaker.clear()
                self._loudspeaker.duck(False)
                self._playing = False
            case ReplyEnded():
                self._loudspeaker.end()
                self._playing = False
            case _:
                pass

    async def report(self) -> None:
        """Tell the conversation what was heard, for as long as this runs."""
        while True:
            await asyncio.sleep(REPORT_S)
            if self._playing:
                self._talk.heard(self._loudspeaker.heard)
