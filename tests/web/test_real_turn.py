"""A spoken turn through the page, the server and the real models."""

from pathlib import Path

import pytest
from playwright.async_api import expect
from web.browser import chromium, opened, silence_nothing, until, write_microphone
from web.served import served

pytestmark = pytest.mark.weights

SPEECH = Path(__file__).parents[1] / "data" / "two_questions.flac"


async def test_a_question_is_heard_answered_and_measured(tmp_path: Path) -> None:
    microphone = write_microphone(tmp_path / "mic.wav", SPEECH, front_s=1, back_s=8)
    async with (
        chromium(microphone) as browser,  # first: it may skip
        served() as url,
        opened(browser, url, script=silence_nothing()) as page,
    ):
        await until(page, "__va.link === 'open'")
        await page.get_by_role("button", name="Talk").click()
        # "in the pan", now and then: when the browser began to play decides where blocks are cut
        await expect(page.locator(".turn").first.locator(".words")).to_contain_text(
            "What is the largest city in", timeout=30_000
        )
        await until(page, "__va.turns[0].reply.length > 5", timeout_s=30)
        await until(page, "__va.heard[1] > 4000", timeout_s=30)
        await until(
            page, "__va.rows[0]?.heard_s > 0 && __va.rows[0].marks.ttft_commit !== undefined", 30
        )
        [first, *_] = await page.evaluate("__va.rows")
        server_s, heard_s = first["marks"]["server_perceived"], first["heard_s"]
        assert server_s - 0.05 < heard_s < server_s + 0.6, "the page's clock and the server's agree"
        for stage in ("is it over?", "first token", "to your ear"):
            await expect(page.locator("#bench .fall").last.get_by_text(stage)).to_be_visible()
        await until(page, "__va.turns[0].windows > 0")
        await expect(page.locator(".tone").first).not_to_be_empty()
        assert abs(await page.evaluate("__va.clock.error_s")) < 0.1
