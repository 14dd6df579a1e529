"""Stream a sound file to a running `textpro serve`; print what was said and what it replies.

python examples/stream_over_websocket.py [FILE] [URL]
"""

import asyncio
import sys
from pathlib import Path

from textpro_stream.audio.files import FileSource
from textpro_stream.client import Session, connect
from textpro_stream.errors import TextproError

QUESTION = Path(__file__).parents[1] / "textpro_stream" / "assets" / "question.flac"
URL = "ws://127.0.0.1:8765/v1/stream"


async def send(session: Session, path: Path) -> None:
    for chunk in FileSource(path).chunks():
        await session.send(chunk)
    await session.end()


async def main(path: Path, url: str) -> None:
    async with connect(url, live=False) as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(send(session, path))
        async for message in session:
            if message["type"] == "turn.endpoint":
                print(f"> {message['transcript'].strip()}")
            elif message["type"] == "reply.done":
                print(message["text"])


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    try:
        asyncio.run(main(Path(given.get(1, QUESTION)), given.get(2, URL)))
    except TextproError as error:  # no server, no such file
        sys.exit(str(error))
