"""Ask a spoken question, print the reply as it comes, save the spoken reply.

python examples/ask_and_save.py [FILE] [REPLY.wav]
"""

import asyncio
import sys
from pathlib import Path

import numpy as np
import soundfile

from textpro_stream import Engine
from textpro_stream.audio.files import FileSource
from textpro_stream.audio.pace import fast
from textpro_stream.events import ReplyAudio, ReplyText, TurnEnded, TurnLatency

QUESTION = Path(__file__).parents[1] / "textpro_stream" / "assets" / "question.flac"


async def main(path: Path, out: Path) -> None:
    audio: list[np.ndarray] = []
    rate_hz = 0
    async with await Engine.load() as engine, engine.open(live=False) as talk:
        talk.feed(fast(FileSource(path).chunks()))
        async for event in talk:
            match event:
                case TurnEnded(transcript=text):
                    print(f"you said: {text}\nreply:    ", end="")
                case ReplyText(text=text):
                    print(text, end="", flush=True)
                case ReplyAudio(chunk=chunk):
                    audio.append(chunk.samples)
                    rate_hz = chunk.rate_hz
                case TurnLatency(marks=marks):
                    first = marks.get("ttft_ready", float("nan"))
                    print(f"\nfirst token {first * 1000:+.0f} ms against the endpoint")
    if audio:
        soundfile.write(out, np.concatenate(audio), rate_hz)
        print(f"spoken reply in {out}")


if __name__ == "__main__":
    arguments = sys.argv[1:] + [None] * 2
    asyncio.run(main(Path(arguments[0] or QUESTION), Path(arguments[1] or "reply.wav")))
