"""Words of a sound file as they commit, with their times.

python examples/transcribe_file.py [FILE]
"""

import asyncio
import sys
from pathlib import Path

from textpro_stream import Engine
from textpro_stream.audio.files import FileSource
from textpro_stream.audio.pace import fast
from textpro_stream.contracts import seconds
from textpro_stream.events import WordsCommitted

QUESTION = Path(__file__).parents[1] / "textpro_stream" / "assets" / "question.flac"


async def main(path: Path) -> None:
    async with await Engine.load(replies=False) as engine, engine.open(live=False) as talk:
        talk.feed(fast(FileSource(path).chunks()))
        async for event in talk:
            if isinstance(event, WordsCommitted):
                start, end = event.spans[0].start, event.spans[-1].end
                print(f"{seconds(start):6.2f} - {seconds(end):6.2f}  {event.text.strip()}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else QUESTION))
