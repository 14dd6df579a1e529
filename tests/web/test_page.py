"""The page in a real browser, against a scripted server under the strict headers."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from web.browser import chromium, opened, until, write_microphone
from web.scripted_server import INPUT_RATE, RATE, ScriptedServer, tone

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPOKEN = json.loads((Path(__file__).parent / "spoken_turn.json").read_text())
REPLY_S = 0.6


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    file = tmp_path_factory.mktemp("microphone") / "quiet.wav"
    async with chromium(write_microphone(file, None, front_s=1, back_s=0)) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[ScriptedServer]:
    found = ScriptedServer()
    await found.start()
    yield found
    await found.stop()


def answer(server: ScriptedServer, *, reply: str = "Good.", duration_s: float = REPLY_S) -> None:
    """A reply to the present turn, given out whole."""
    server.send("reply.started")
    server.send("reply.delta", text=reply)
    server.audio(tone(duration_s))
    server.send("reply.given", text=reply, reason="stop", marks={})


def answer_typed(server: ScriptedServer, **reply: object) -> None:
    """From now on, whatever is written gets a reply."""

    def said(message: dict[str, object]) -> None:
        if message["type"] == "say":
            server.next_turn()
            text = message["text"]
            server.send("turn.endpoint", transcript=text, reason="typed", replies=True)
            answer(server, **reply)

    server.on_message = said


def speak_once(server: ScriptedServer) -> None:
    """After a second of microphone, the recorded turn has just been said."""

    def heard(seconds: float) -> None:
        if seconds >= 1.0:
            server.on_audio = lambda _: None
            server.next_turn()
            server.play([e for e in SPOKEN if e["type"] not in ENDS], shift_s=-2.4)
            server.audio(tone(REPLY_S))
            server.play([e for e in SPOKEN if e["type"] in ENDS])

    server.on_audio = heard


ENDS = ("reply.done", "turn.latency")


async def write(page: Page, text: str) -> None:
    await page.get_by_role("textbox", name="Write instead of speaking").fill(text)
    await page.get_by_role("button", name="Send").click()


async def test_the_key_leaves_the_address_bar_and_travels_as_a_subprotocol(
    browser: Browser, server: ScriptedServer
) -> None:
    async with opened(browser, server.url + "#s3cret") as page:
        await until(page, "__va.link === 'open'")
        assert page.url == server.url
        assert server.offered == ["textpro", "openai-insecure-api-key.s3cret"]
        assert server.protocols == ["textpro"]
        [start] = server.sent("start")
        assert start["vectors"] is True
        assert start["live"] is True


async def test_every_control_has_a_role_and_a_name(
    browser: Browser, server: ScriptedServer
) -> None:
    async with opened(browser, server.url) as page:
        for name in ("Talk", "Send", "Stop", "Latency"):
            await expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
        await expect(page.get_by_role("status")).to_have_text("Press Talk or Space, or write")
        await expect(page.get_by_role("log", name="Captions")).to_be_attached()
        await expect(page.get_by_role("complementary", name="Latency bench")).to_be_visible()
        nameless = await page.evaluate(
            """() => [...document.querySelectorAll("button, input:not([hidden]), summary, [role]")]
              .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.length
                || e.matches("#notice")))
              .map((e) => e.outerHTML)"""
        )
        assert nameless == []
        await expect(page.get_by_text("Nothing is recorded")).to_be_visible()


async def test_a_spoken_turn_from_words_to_waterfall(
    browser: Browser, server: ScriptedServer
) -> None:
    speak_once(server)
    async with opened(browser, server.url) as page:
        await page.get_by_role("button", name="Talk").click()
        await expect(page.locator(".words .word")).to_have_count(7)
        await expect(page.locator(".answer")).to_contain_text("The largest city in Japan is Tokyo.")
        await expect(page.locator(".tone")).not_to_be_empty()
        await expect(page.locator("#bench .fall")).to_be_visible()
        for stage in ("last word", "is it over?", "first token", "voice"):
            await expect(page.locator("#bench .fall").get_by_text(stage)).to_be_visible()
        await until(page, f"__va.heard[1] === {int(REPLY_S * RATE)}")  # all of it, exactly once
        await until(page, "__va.rows[0].heard_s > 0")
        log = page.get_by_role("log", name="Captions")
        await expect(log).to_contain_text("What is the largest city in Japan?")
        await expect(log).to_contain_text("Reply: The largest city in Japan is Tokyo.")
        [mark] = server.sent("mark")
        assert mark["name"] == "first_audio_played"
        assert server.sent("heard")[-1] == {
            "type": "heard",
            "turn": 1,
            "samples": int(REPLY_S * RATE),
        }
        assert await painted(page), "the ribbon's rail lies under the words"


async def painted(page: Page) -> bool:
    return await page.evaluate(
        """() => { const c = document.querySelector(".ribbon");
          return c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((v) => v) }"""
    )


async def test_tentative_words_are_hidden_from_readers_and_move_nothing(
    browser: Browser, server: ScriptedServer
) -> None:
    async with opened(browser, server.url, reduced_motion="reduce") as page:
        await until(page, "__va.link === 'open'")
        server.next_turn()
        server.send("speech.started", speech_s=0.1)
        words = [(" What", 0.2, 0.4), (" is", 0.4, 0.5), (" the", 0.5, 0.6)]
        places = []
        for i, (text, start_s, end_s) in enumerate(words):
            token = {"text": text, "start_s": start_s, "end_s": end_s, "logprob": 0.0}
            server.send("transcript.committed", text=text, tokens=[token])
            server.send("transcript.hypothesis", text=f" maybe {i} words that go on for a while")
            await expect(page.locator(".maybe")).to_contain_text(f"maybe {i}")
            places.append(await page.locator(".word").first.bounding_box())
        assert places.count(places[0]) == 3
        assert await page.locator(".maybe").get_attribute("aria-hidden") == "true"
        assert "maybe" not in await page.get_by_role("log", name="Captions").inner_text()


async def test_a_written_turn_is_answered_and_measured(
    browser: Browser, server: ScriptedServer
) -> None:
    answer_typed(server)
    async with opened(browser, server.url) as page:
        await write(page, "Hello there")
        await expect(page.locator(".words")).to_have_text("Hello there")
        await expect(page.locator(".answer")).to_contain_text("Good.")
        await until(page, "__va.rows.length === 0 && __va.heard[1] > 0")
        server.send("reply.done", text="Good.", reason="stop")
        await until(page, "__va.rows[0]?.heard_s > 0 && __va.rows[0].kind === 'typed'")
        await expect(page.locator("#words")).to_have_value("")


async def test_words_of_others_are_never_read_as_markup(
    browser: Browser, server: ScriptedServer
) -> None:
    answer_typed(server, reply="<img src=x onerror=alert(1)><b>bold</b>")
    async with opened(browser, server.url) as page:
        await write(page, "<script>alert(2)</script>")
        await expect(page.locator(".answer")).to_contain_text("<img src=x onerror=alert(1)>")
        await expect(page.locator(".words")).to_contain_text("<script>")
        assert await page.locator(".turn img, .said b, .answer b, .turn script").count() == 0


async def test_barge_in_ducks_then_silences_and_stays_silent(
    browser: Browser, server: ScriptedServer
) -> None:
    answer_typed(server, reply="A long reply.", duration_s=8)
    async with opened(browser, server.url) as page:
        await write(page, "Tell me")
        await until(page, "__va.state === 'speaking' && __va.heard[1] > 2000")
        server.send("reply.ducked", ducked=True)
        await until(page, "__va.playback.gain < 0.26")  # -12 dB
        server.send("reply.ducked", ducked=False)
        await until(page, "__va.playback.gain > 0.95")
        server.send("reply.done", text="A long", reason="barge_in")
        await until(page, "__va.playback.queued_s === 0 && !__va.playback.playing")
        heard = await page.evaluate("__va.heard[1]")
        assert heard < 6 * RATE
        server.audio(tone(1))  # was under way; nobody wants it any more
        server.send("reply.ducked", ducked=False)
        await expect(page.locator(".unheard")).to_have_text("reply.")
        await expect(page.locator(".ending")).to_contain_text("You interrupted")
        assert await page.evaluate("__va.playback.queued_s") == 0
        assert await page.evaluate("__va.heard[1]") <= heard + RATE // 10


async def test_an_announcement_answers_nobody(browser: Browser, server: ScriptedServer) -> None:
    async with opened(browser, server.url) as page:
        await write(page, "   ")  # a gesture that says nothing
        await page.get_by_role("heading", name="Say something.").click()
        await until(page, "__va.link === 'open'")
        server.next_turn()
        answer(server, reply="Dinner is ready.")
        await expect(page.locator(".answer")).to_have_text("Reply: Dinner is ready.")
        await expect(page.locator(".said")).to_be_hidden()
        server.send("reply.done", text="Dinner is ready.", reason="stop")
        await until(page, "__va.rows.length === 1 && __va.rows[0].heard_s === null")


async def test_stop_is_silence_at_once(browser: Browser, server: ScriptedServer) -> None:
    answer_typed(server, duration_s=5)
    async with opened(browser, server.url) as page:
        await write(page, "Tell me")
        await until(page, "__va.state === 'speaking'")
        await page.get_by_role("button", name="Stop").click()
        await until(page, "__va.playback.queued_s === 0")
        assert len(server.sent("stop")) == 1


async def test_the_page_comes_back_after_the_server_did(
    browser: Browser, server: ScriptedServer
) -> None:
    answer_typed(server)
    lost = ("WebSocket connection", "ERR_CONNECTION_REFUSED")
    async with opened(browser, server.url, expected=lost) as page:
        await write(page, "Before")
        await expect(page.locator(".answer")).to_have_count(1)
        await server.stop()
        await expect(page.get_by_role("status")).to_contain_text("Trying again")
        await until(page, "__va.link !== 'open'")
        await server.start()
        await until(page, "__va.link === 'open'")
        assert server.sessions == 2
        await write(page, "After")
        await expect(page.locator(".words")).to_have_text(["Before", "After"])
        await until(page, "__va.turns[1]?.id === 's2:1' && __va.heard[1] > 0")


async def test_a_session_that_ended_begins_anew_by_talking(
    browser: Browser, server: ScriptedServer
) -> None:
    async with opened(browser, server.url) as page:
        await until(page, "__va.link === 'open'")
        await page.get_by_role("button", name="Talk").click()
        await until(page, "__va.sent > 0")
        await server.end(1000, "")
        await expect(page.get_by_role("status")).to_contain_text("The session is over. Press Talk")
        await page.get_by_role("button", name="Talk", exact=True).click()
        await until(page, "__va.link === 'open' && __va.sent > 0")
        assert server.sessions == 2


async def test_a_refused_key_says_what_to_do(browser: Browser, server: ScriptedServer) -> None:
    server.refuse = True
    async with opened(browser, server.url, expected=("WebSocket connection",)) as page:
        await expect(page.get_by_role("status")).to_contain_text(
            "open the link that textpro serve printed"
        )


async def test_the_keyboard_does_everything(browser: Browser, server: ScriptedServer) -> None:
    speak_once(server)
    async with opened(browser, server.url) as page:
        await until(page, "__va.link === 'open'")
        await page.keyboard.press("Space")
        await expect(page.get_by_role("button", name="Mute the microphone")).to_be_visible()
        await expect(page.locator(".answer")).to_be_visible()
        await page.keyboard.press("f")
        await expect(page.get_by_role("button", name="I was cut off")).to_have_attribute(
            "aria-pressed", "true"
        )
        assert await page.evaluate("__va.rows[0].cut_off") is True
        await page.keyboard.press("Escape")
        await page.keyboard.press("l")
        await expect(page.locator("#bench")).to_be_hidden()
        await page.keyboard.press("Space")
        await expect(page.get_by_role("button", name="Talk", exact=True)).to_be_visible()
        await page.keyboard.press("/")
        await page.keyboard.type("f l in words")
        await expect(page.locator("#words")).to_have_value("f l in words")
        await page.keyboard.press("Enter")
        await until(page, "document.querySelector('#words').value === ''")
        names = [message["name"] for message in server.sent("mark")]
        assert "false_cutoff" in names
        assert len(server.sent("stop")) == 1
        await page.keyboard.press("Tab")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert await page.evaluate(outline) == "solid"


async def test_letter_keys_can_be_switched_off_for_good(
    browser: Browser, server: ScriptedServer
) -> None:
    async with opened(browser, server.url) as page:
        await page.get_by_text("Settings", exact=True).click()
        await page.get_by_role("checkbox", name="Letter keys").uncheck()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("checkbox", name="Letter keys")).to_be_hidden()
        assert await page.evaluate("document.activeElement.tagName") == "SUMMARY"
        await page.reload()
        await page.keyboard.press("l")
        await expect(page.locator("#bench")).to_be_visible()
        await page.get_by_text("Settings", exact=True).click()
        await page.get_by_role("checkbox", name="Letter keys").check()
        await page.keyboard.press("l")
        await expect(page.locator("#bench")).to_be_hidden()
        assert server.sent("stop") == []


async def test_hold_to_talk_sends_only_what_was_held(
    browser: Browser, server: ScriptedServer
) -> None:
    async with opened(browser, server.url) as page:
        await until(page, "__va.link === 'open'")
        await page.get_by_text("Settings", exact=True).click()
        await page.get_by_role("checkbox", name="Hold to talk").check()
        await page.keyboard.press("Escape")
        await page.locator("h1").click()
        await page.keyboard.down("Space")
        await until(page, "__va.sent > 4000")
        await page.keyboard.up("Space")
        await until(page, "__va.state === 'ready'")
        sent = await page.evaluate("__va.sent")
        await page.wait_for_timeout(150)
        assert await page.evaluate("__va.sent") == sent
        kinds = [m["type"] for m in server.got if m["type"] in ("press", "release")]
        assert kinds == ["press", "release"]
        assert server.sent("set")[-1]["push_to_talk"] is True
        talk = page.get_by_role("button", name="Hold to talk")
        await talk.hover()
        await page.mouse.down()
        await until(page, f"__va.sent > {sent}")
        await page.mouse.up()
        assert [m["type"] for m in server.got][-1:] == ["release"] or len(
            server.sent("release")
        ) == 2


async def test_a_file_takes_the_microphones_path(
    browser: Browser, server: ScriptedServer, tmp_path: Path
) -> None:
    file = write_microphone(tmp_path / "clip.wav", None, front_s=1.5, back_s=0)
    speak_once(server)
    async with opened(browser, server.url) as page:
        await until(page, "__va.link === 'open'")
        await page.set_input_files("#stream-file", file)
        await expect(page.get_by_role("status")).to_have_text("Listening to the file")
        await until(page, "__va.rows[0]?.kind === 'file'")
        await until(page, f"__va.sent > {1.2 * INPUT_RATE}")
        assert server.audio_bytes >= 1.2 * INPUT_RATE * 2


async def test_a_file_that_is_none_says_so(
    browser: Browser, server: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "clip.wav").write_text("no sound")
    async with opened(browser, server.url) as page:
        await page.set_input_files("#stream-file", tmp_path / "clip.wav")
        await expect(page.get_by_role("alert")).to_contain_text("cannot decode")


async def test_runs_go_out_and_come_in_again(
    browser: Browser, server: ScriptedServer, tmp_path: Path
) -> None:
    speak_once(server)
    async with opened(browser, server.url) as page:
        await page.get_by_role("button", name="Talk").click()
        await until(page, "__va.rows[0]?.heard_s > 0 && __va.rows[0].marks.server_perceived")
        for kind in ("JSON", "CSV"):
            async with page.expect_download() as download:
                await page.get_by_role("button", name=f"Export {kind}").click()
            file = tmp_path / f"yesterday.{kind.lower()}"
            await (await download.value).save_as(file)
            assert "Tokyo" not in file.read_text()
            await page.set_input_files("#import-file", file)
            await expect(page.locator("#bench tr.other").first).to_contain_text("yesterday")
        exported = json.loads((tmp_path / "yesterday.json").read_text())
        assert exported["turns"][0]["marks"]["server_perceived"] > 0
        assert exported["about"]["models"] == {"asr": "script", "llm": "script", "voice": "script"}

        marks = {"server_perceived": 2.0}
        turns = [{"system": "record-then-run", "speech_s": 2.5, "marks": marks}]
        bench = tmp_path / "bench.json"
        bench.write_text(json.dumps({"kind": "textpro bench latency", "turns": turns}))
        await page.set_input_files("#import-file", bench)
        await expect(page.locator("#bench .fall .ghost")).to_be_visible()
        await expect(page.locator("#bench .sooner")).to_contain_text("sooner than record-then-run")

        bench.write_text("{}")
        await page.set_input_files("#import-file", bench)
        await expect(page.get_by_role("alert")).to_contain_text("neither a run of this page")


TROUBLES = {
    "NotAllowedError": "allow it beside the address bar",
    "NotFoundError": "plug one in",
    "NotReadableError": "Another program holds the microphone",
}


@pytest.mark.parametrize("name", TROUBLES)
async def test_a_microphone_that_does_not_open_says_what_to_do(
    browser: Browser, server: ScriptedServer, name: str
) -> None:
    script = f"""navigator.mediaDevices.getUserMedia =
      async () => {{ throw new DOMException("no", "{name}") }};"""
    async with opened(browser, server.url, script=script) as page:
        await page.get_by_role("button", name="Talk").click()
        await expect(page.get_by_role("alert")).to_contain_text(TROUBLES[name])
        await expect(page.get_by_role("button", name="Talk")).to_have_attribute(
            "aria-pressed", "false"
        )


async def test_an_insecure_address_says_what_to_do(
    browser: Browser, server: ScriptedServer
) -> None:
    script = "Object.defineProperty(window, 'isSecureContext', {value: false});"
    async with opened(browser, server.url, script=script) as page:
        await page.get_by_role("button", name="Talk").click()
        await expect(page.get_by_role("alert")).to_contain_text("serve it with --tls")


async def test_a_worklet_that_does_not_load_says_what_to_do(
    browser: Browser, server: ScriptedServer
) -> None:
    server.missing = "worklets"
    async with opened(browser, server.url, expected=("Failed to load", "worklet")) as page:
        await page.get_by_role("button", name="Talk").click()
        await expect(page.get_by_role("alert")).to_contain_text("The audio worklet did not load")
        await expect(page.get_by_role("button", name="Talk")).to_have_attribute(
            "aria-pressed", "false"
        )


async def test_errors_of_the_server_are_shown(browser: Browser, server: ScriptedServer) -> None:
    async with opened(browser, server.url) as page:
        await until(page, "__va.link === 'open'")
        server.send("error", turn=0, code="asr", message="The recogniser failed; say it again.")
        await expect(page.get_by_role("alert")).to_have_text("The recogniser failed; say it again.")


SIZES = {
    "phone": {"viewport": {"width": 390, "height": 844}},
    "small phone": {"viewport": {"width": 320, "height": 568}},
    "desktop at 200 %": {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
    "phone, big type": {
        "viewport": {"width": 390, "height": 844},
        "script": """addEventListener("DOMContentLoaded",
          () => { document.documentElement.style.fontSize = "200%" })""",
    },
}


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_is_cut_off_at_the_side(
    browser: Browser, server: ScriptedServer, size: str
) -> None:
    speak_once(server)
    async with opened(browser, server.url, **SIZES[size]) as page:
        await page.get_by_role("button", name="Talk").click()
        await until(page, "__va.rows.length === 1")
        await page.get_by_role("button", name="Latency").click()
        await expect(page.locator("#bench .fall")).to_be_visible()
        width = await page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1]
        for name in ("Mute the microphone", "Send", "Stop"):
            box = await page.get_by_role("button", name=name).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width[1]


CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c;
  } return [255, 255, 255]; };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest(":disabled, .unseen, svg, noscript") || !e.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${e.outerHTML.slice(0, 80)}`);
  }
  return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_can_be_read(browser: Browser, server: ScriptedServer, scheme: str) -> None:
    speak_once(server)
    async with opened(browser, server.url, color_scheme=scheme, reduced_motion="reduce") as page:
        assert await page.evaluate(CONTRAST) == []
        await page.get_by_role("button", name="Talk").click()
        await until(page, "__va.rows.length === 1")
        server.next_turn()
        server.send("speech.started", speech_s=0.9)
        server.send("transcript.hypothesis", text=" perhaps this")
        await expect(page.locator(".maybe").last).to_have_text("perhaps this")
        await page.get_by_text("Settings", exact=True).click()
        assert await page.evaluate(CONTRAST) == []


async def test_motion_can_be_refused(browser: Browser, server: ScriptedServer) -> None:
    async with opened(browser, server.url, reduced_motion="reduce") as page:
        moving = await page.evaluate("document.getAnimations().length")
        assert moving == 0


async def test_many_turns_stay_in_order_and_in_sight(
    browser: Browser, server: ScriptedServer
) -> None:
    answer_typed(server, duration_s=0.05)
    async with opened(browser, server.url) as page:
        for i in range(12):
            await write(page, f"Line {i}")
        await expect(page.locator(".words")).to_have_text([f"Line {i}" for i in range(12)])
        await expect(page.locator(".words").last).to_be_in_viewport()
