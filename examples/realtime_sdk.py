"""The `openai` package with a running `textpro serve`: a typed turn, then a spoken one.

pip install openai; python examples/realtime_sdk.py [FILE] [URL] [REPLY.wav]
"""

import asyncio
import base64
import os
import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
from openai import AsyncOpenAI

QUESTION = Path(__file__).parents[1] / "textpro_stream" / "assets" / "question.flac"
URL = "http://127.0.0.1:8765/v1"
KEY = os.environ.get("TEXTPRO_SERVER__API_KEY", "none")
RATE = 24_000  # Hz, both ways
MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
CONTENT = [{"type": "input_text", "text": "What is the capital of France?"}]
TYPED = {"type": "message", "role": "user", "content": CONTENT}


async def reply(connection) -> bytes:
    audio = b""
    async for event in connection:
        match event.type:
            case "conversation.item.input_audio_transcription.completed":
                print(f"> {event.transcript}")
            case "response.output_text.delta" | "response.output_audio_transcript.delta":
                print(event.delta, end="")
            case "response.output_audio.delta":
                audio += base64.b64decode(event.delta)
            case "response.done":
                print(f"\n({event.response.status})")
                return audio
            case "error":
                raise SystemExit(event.error.message)


async def main(path: str | Path, url: str, out: str) -> None:
    async with AsyncOpenAI(api_key=KEY, base_url=url).realtime.connect(model="local") as c:
        await c.session.update(session=MANUAL)
        await c.conversation.item.create(item=TYPED)
        await c.response.create(response={"output_modalities": ["text"]})
        await reply(c)
        samples, rate_hz = soundfile.read(path)
        pcm = (soxr.resample(samples, rate_hz, RATE) * 32767).astype("<i2").tobytes()
        await c.input_audio_buffer.append(audio=base64.b64encode(pcm).decode())
        await c.input_audio_buffer.commit()
        await c.response.create()
        soundfile.write(out, np.frombuffer(await reply(c), "<i2"), RATE)
        print(f"spoken reply in {out}")


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    asyncio.run(main(given.get(1, QUESTION), given.get(2, URL), given.get(3, "reply.wav")))
