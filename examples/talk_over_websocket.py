"""Talk to a running `textpro serve`, on this machine or another: microphone and loudspeaker.

python examples/talk_over_websocket.py [URL]    speak; interrupt it if you like; Ctrl-C ends
"""

import asyncio
import os
import sys
from contextlib import closing

import numpy as np

from textpro_stream.audio.microphone import Microphone
from textpro_stream.audio.speaker import Loudspeaker
from textpro_stream.client import Session, connect
from textpro_stream.contracts import SpokenChunk
from textpro_stream.errors import TextproError

playing = {"turn": 0, "rate_hz": 0}  # the reply


async def speak(session: Session, mic: Microphone) -> None:
    async for chunk in mic.chunks():
        await session.send(chunk)


async def report(session: Session, out: Loudspeaker) -> None:
    while await asyncio.sleep(0.05, True):
        if out.playing:
            await session.heard(playing["turn"], out.heard)


async def listen(session: Session, out: Loudspeaker) -> None:
    async for message in session:
        match message["type"]:
            case "session.started":
                playing["rate_hz"] = message["reply_rate_hz"]
            case "turn.endpoint":
                print(f"> {message['transcript'].strip()}")
            case "speech.audio":
                playing["turn"], rate_hz = message["turn"], playing["rate_hz"]
                samples = np.frombuffer(message["pcm"], "<i2") / np.float32(32768)
                out.play(SpokenChunk(samples, rate_hz, round(message["start_s"] * rate_hz), 0))
            case "reply.done":
                print(message["text"])
                if message["reason"] in ("barge_in", "cancelled"):
                    out.clear()


async def main(url: str) -> None:
    with closing(Microphone()) as mic, closing(Loudspeaker()) as out:
        async with connect(url, key=os.environ.get("TEXTPRO_KEY")) as session:
            await asyncio.gather(speak(session, mic), report(session, out), listen(session, out))


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if sys.argv[1:] else "ws://127.0.0.1:8765/v1/stream"))
    except (TextproError, KeyboardInterrupt) as error:  # no microphone, no server; Ctrl-C
        sys.exit(str(error))
