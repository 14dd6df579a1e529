"""The picture in the README: two spoken turns with the real models, the second interrupting.

    PYTHONPATH=tests:tests/support python tests/web/screenshot.py docs/images/page.png [bench.json]

A report of `textpro bench baseline --json bench.json` adds the record-then-run ghost.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from web.browser import chromium, opened, silence_nothing, until, write_microphone
from web.served import served

SPEECH = Path(__file__).parents[1] / "data" / "two_questions.flac"
SIZE = {"viewport": {"width": 1280, "height": 800}, "device_scale_factor": 1.5}


async def take(picture: Path, report: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        microphone = write_microphone(Path(folder) / "mic.wav", SPEECH, front_s=1, back_s=10)
        async with (
            served() as url,
            chromium(microphone) as browser,
            opened(browser, url, script=silence_nothing(), **SIZE) as page,
        ):
            if report is not None:
                await page.set_input_files("#import-file", report)
            await until(page, "__va.link === 'open'")
            await page.get_by_role("button", name="Talk").click()
            await until(page, "__va.turns[1]?.done && __va.state === 'listening'", timeout_s=60)
            await page.wait_for_timeout(500)
            picture.parent.mkdir(parents=True, exist_ok=True)
            await page.screenshot(path=picture)


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
