"""How it was said: one line for each prosody window of a sound file, and one for each turn.

python examples/tone_of_voice.py [FILE]
"""

import asyncio
import sys
from pathlib import Path

from textpro_stream import Engine
from textpro_stream.audio.files import FileSource
from textpro_stream.audio.pace import fast
from textpro_stream.contracts import seconds
from textpro_stream.events import ProsodyUpdated, TurnTone

QUESTION = Path(__file__).parents[1] / "textpro_stream" / "assets" / "question.flac"


async def main(path: Path) -> None:
    async with await Engine.load(replies=False) as engine, engine.open(live=False) as talk:
        talk.feed(fast(FileSource(path).chunks()))
        async for event in talk:
            if isinstance(event, ProsodyUpdated):
                window = event.window
                pitch = "unvoiced" if window.f0_hz is None else f"{window.f0_hz:5.0f} Hz"
                print(
                    f"{seconds(window.start):6.2f} - {seconds(window.end):6.2f}  {pitch}"
                    f"  {window.energy_dbfs:6.1f} dBFS  {window.rate_tps:4.1f} tokens/s"
                )
            elif isinstance(event, TurnTone):
                tone = event.tone  # None: unsure, or nothing to compare with yet
                print(f"turn {event.turn}: arousal {tone.arousal}, emotion {tone.guess}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else QUESTION))
