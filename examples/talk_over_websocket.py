"""Talk to a running `textpro serve`, on this machine or another: microphone and loudspeaker.

python examples/talk_over_websocket.py [URL]    speak; interrupt it if you like; Ctrl-C ends
"""

import asyncio
import os
import sys
from contextlib import closing, suppress

import numpy as np

from textpro_stream.audio.microphone import Microphone
from textpro_stream.audio.speaker import Loudspeaker
from textpro_stream.client import Session, connect
from textpro_stream.contracts import SpokenChunk

turn, rate_hz = 0, 0  # of the reply that is being played


async def speak(session: Session, microphone: Microphone) -> None:
    async for chunk in microphone.chunks():
        await session.send(chunk)


async def report(session: Session, loudspeaker: Loudspeaker) -> None:
    while True:
        await asyncio.sleep(0.05)
        if loudspeaker.playing:
            await session.heard(turn, loudspeaker.heard)


async def listen(session: Session, loudspeaker: Loudspeaker) -> None:
    global turn, rate_hz
    async for message in session:
        match message["type"]:
            case "session.started":
                rate_hz = message["reply_rate_hz"]
            case "turn.endpoint":
                print(f"> {message['transcript'].strip()}")
            case "speech.audio":
                turn, start = message["turn"], round(message["start_s"] * rate_hz)
                samples = np.frombuffer(message["pcm"], "<i2") / np.float32(32768)
                loudspeaker.play(SpokenChunk(samples, rate_hz, start, 0))
            case "reply.done":
                print(message["text"])
                if message["reason"] in ("barge_in", "cancelled"):
                    loudspeaker.clear()


async def main(url: str) -> None:
    with closing(Microphone()) as microphone, closing(Loudspeaker()) as loudspeaker:
        async with connect(url, key=os.environ.get("TEXTPRO_KEY")) as session:
            sound = speak(session, microphone), report(session, loudspeaker)
            await asyncio.gather(*sound, listen(session, loudspeaker))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1] if sys.argv[1:] else "ws://127.0.0.1:8765/v1/stream"))
