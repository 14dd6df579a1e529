"""Headless Chromium with a microphone that plays a file, and a page that may not complain."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.async_api import Browser, Page, async_playwright
from web.node import node

MIC_RATE = 48_000
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
COMPLAIN = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI}`));
"""


def executable() -> str:
    """The system's browser; skips where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no browser: apt-get install chromium")
    return found


def write_microphone(file: Path, clip: Path | None, *, front_s: float, back_s: float) -> Path:
    """What the fake microphone will hear: a clip (or nothing) with silence around it."""
    speech = np.zeros(0, np.float32)
    if clip is not None:
        import soxr

        samples, rate_hz = soundfile.read(clip, dtype="float32")
        speech = soxr.resample(samples, rate_hz, MIC_RATE)
    quiet = [np.zeros(int(MIC_RATE * seconds), np.float32) for seconds in (front_s, back_s)]
    soundfile.write(file, np.concatenate([quiet[0], speech, quiet[1]]), MIC_RATE, subtype="PCM_16")
    return file


@asynccontextmanager
async def chromium(microphone: Path) -> AsyncIterator[Browser]:
    """A browser whose microphone plays the file from the moment at which it is opened."""
    flags = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}%noloop",
        "--autoplay-policy=no-user-gesture-required",
    ]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium has none for root
    path = executable()
    os.environ["PLAYWRIGHT_NODEJS_PATH"] = node()  # its own wants a library that may be missing
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(browser: Browser, url: str, **options: object) -> AsyncIterator[Page]:
    """The page, in a profile of its own. Console errors and CSP violations fail the test.

    `expected` names substrings of complaints that this test provokes.
    """
    expected = options.pop("expected", ())
    script = options.pop("script", "")
    context = await browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
    page = await context.new_page()
    page.set_default_timeout(10_000)
    complaints: list[str] = []
    page.on("console", lambda line: line.type == "error" and complaints.append(line.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.add_init_script(COMPLAIN + str(script))
    await page.goto(url)
    try:
        yield page
        unexpected = [text for text in complaints if not any(one in text for one in expected)]
        assert unexpected == []
    finally:
        await context.close()


async def until(page: Page, claim: str, timeout_s: float = 10) -> None:
    """Playwright's own waiting evaluates strings inside the page, which its CSP forbids."""
    async with asyncio.timeout(timeout_s):
        while not await page.evaluate(f"Boolean({claim})"):
            await page.wait_for_timeout(20)


def silence_nothing() -> str:
    """Echo and noise filters off, as a user may choose: they change what a fake microphone says."""
    return """localStorage.setItem("textpro.settings", '{"echo": false, "noise": false}');"""
