"""`textpro serve` with the real models, as a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from processes import START

LOADS_S = 90  # the models, on a busy machine


@asynccontextmanager
async def served(*options: str) -> AsyncIterator[str]:
    """The link that the server prints. Ends as a user would end it, and must end well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", START, "serve", "--port", "0", *options),
        env={k: v for k, v in os.environ.items() if not k.startswith("TEXTPRO_")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LOADS_S):
            while True:
                line = (await process.stdout.readline()).decode()
                assert line, "the server ended before it printed its link"
                if link := re.search(r"http://\S+", line):
                    break
        yield link[0]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
    assert process.returncode == 0
