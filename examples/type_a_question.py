"""A typed conversation with memory: the same engine, no microphone, no voice.

python examples/type_a_question.py ["a question" ...]
"""

import asyncio
import sys

from textpro_stream import Engine
from textpro_stream.events import ReplyEnded


async def main(questions: list[str]) -> None:
    async with await Engine.load(speech=False) as engine, engine.open() as talk:
        for question in questions:
            await talk.say(question)
            async for event in talk:
                if isinstance(event, ReplyEnded):
                    print(f"> {question}\n{event.text.strip()}")
                    break


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["What is the capital of France?", "And of Italy?"]))
