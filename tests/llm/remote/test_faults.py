"""Everything that can be wrong with a server: one line each, and the conversation goes on."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest
from remote_talk import ask, draw, turn
from scripted_llm_server import (
    Answer,
    Drops,
    Hangs,
    Refuses,
    Says,
    ScriptedLlmServer,
    Sends,
)

from textpro_stream.config import LlmOptions
from textpro_stream.contracts import Message, ReplyOptions, TextDelta
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.llm.remote import RemoteDialogue, RemoteEngine, api, open_remote
from textpro_stream.telemetry.trace import Unobserved


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "PAUSES_S", (0.01, 0.02))
    monkeypatch.setattr(api, "FIRST_TOKEN_S", 0.5)
    monkeypatch.setattr(api, "BETWEEN_TOKENS_S", 0.5)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


FAULTS: dict[str, tuple[list[Answer], str]] = {
    "no key": ([Refuses(401)], "wants a key; set TEXTPRO_LLM__API_KEY"),
    "forbidden": ([Refuses(403)], "wants a key"),
    "no such model": (
        [Refuses(404, '{"error": {"message": "model not found"}}')],
        "knows no model 'small'.*model not found",
    ),
    "moved": ([Refuses(301, "", (("Location", "https://x/v1"),))], "has moved to https://x/v1"),
    "busy": ([Refuses(429)] * 3, "is too busy .429.; try again later"),
    "busy for a minute": (
        [Refuses(429, headers=(("Retry-After", "60"),))],
        "try again in 60 s",
    ),
    "broken": ([Refuses(500, "<html>oh dear</html>")] * 3, "answered 500: <html>oh dear</html>"),
    "bad request": ([Refuses(400, '{"error": "no such field"}')], "answered 400: no such field"),
    "silent": ([Hangs()], "gave no first token in 0.5 s"),
    "stuck": ([Says(("Four",), stall=True)], "gave nothing more for 0.5 s"),
    "cut in the middle": ([Says(("Four",), cut=True)], "broke off in the middle"),
    "gone at once": ([Drops()] * 3, "closed the connection"),
    "a web page": ([Sends("<!doctype html>")], r"'<!doctype html>' \(text/html\).*no JSON.*/v1"),
    "nothing": ([Sends("")], "no JSON"),
    "no JSON in the stream": ([Sends("data: {nope\n\n", "text/event-stream")], "no JSON"),
    "an ended stream": ([Sends("data: [DONE]\n\n", "text/event-stream")], "no JSON"),
    "an error in the stream": (
        [Says(("Four",), error={"message": "out of\nmemory"})],
        "failed: out of memory",
    ),
    "an error as a line of its own": (
        [Sends('error: {"code": 500, "message": "slot died"}\n\n', "text/event-stream")],
        "failed: slot died",
    ),
    "an error as a whole": ([Sends('{"error": "no memory"}', "application/json")], "no memory"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_one_line_and_the_conversation_lives(
    fault: str, dialogue: RemoteDialogue, engine: RemoteEngine, server: ScriptedLlmServer
) -> None:
    answers, says = FAULTS[fault]
    await ask(dialogue, 1, "How long?")
    server.replies += answers
    await dialogue.follow(turn(2, "And rice?", over=True))
    with pytest.raises(StageError, match=says) as caught:
        await draw(dialogue, 2)
    message = str(caught.value)
    assert "\n" not in message
    assert server.url in message
    assert engine.fault == ("" if fault == "bad request" else message)
    assert not server.replies  # tried as often as it should be
    await dialogue.rest()
    assert (await draw(dialogue, 2)).text == "Fine."
    assert engine.fault == ""
    assert dialogue.messages == (
        Message("u1", "user", "How long?"),
        Message("a1", "assistant", "Fine."),
    )


@pytest.mark.parametrize(
    "fault",
    [Refuses(429), Refuses(503), Drops(), Refuses(429, headers=(("Retry-After", "0.01"),))],
)
async def test_what_passes_is_tried_again_before_anything_was_said(
    fault: Answer, dialogue: RemoteDialogue, engine: RemoteEngine, server: ScriptedLlmServer
) -> None:
    server.replies += [fault, fault]
    assert (await ask(dialogue, 1, "How long?")).text == "Fine."
    assert len(server.replied) == 3
    assert engine.fault == ""


async def test_what_was_said_before_a_cut_was_said(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies.append(Says(("Four", " min"), cut=True))
    await dialogue.follow(turn(1, "How long?", over=True))
    reply = dialogue.reply(1, ReplyOptions())
    assert [await anext(reply), await anext(reply)] == [TextDelta("Four"), TextDelta(" min")]
    with pytest.raises(StageError, match="broke off"):
        await anext(reply)


async def test_a_server_that_is_down_may_come_back() -> None:
    server = ScriptedLlmServer(free_port())
    options = LlmOptions(url=server.url)
    engine = open_remote(options)
    assert engine is not None
    dialogue = engine.open(options, Unobserved())
    await dialogue.follow(turn(1, "How long?", over=True))
    with pytest.raises(StageError, match=r"cannot be reached.*start it, or mend .llm. url"):
        await draw(dialogue)
    assert "cannot be reached" in engine.fault
    with pytest.raises(StageError, match="cannot be reached"):
        await engine.check()
    async with server.running():
        assert (await draw(dialogue)).text == "Fine."
        assert engine.fault == ""
        await dialogue.close()
        await engine.close()


async def test_a_fault_is_over_when_the_server_is_well_though_nobody_calls(
    dialogue: RemoteDialogue,
    engine: RemoteEngine,
    server: ScriptedLlmServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api, "LOOKS_S", (0.01,))
    server.replies += [Refuses(503)] * 3
    server.prefills += [Refuses(503)] * 2
    with pytest.raises(StageError):
        await ask(dialogue, 1, "How long?")
    assert engine.fault
    await server.until(n_prefills=3)
    async with asyncio.timeout(20):
        while engine.fault:  # noqa: ASYNC110 - it is no event
            await asyncio.sleep(0)


async def test_a_model_that_is_not_there_and_those_that_are(server: ScriptedLlmServer) -> None:
    server.models = [{"id": "small"}, {"id": "large"}]
    server.replies.append(Refuses(404))
    options = LlmOptions(model=f"{server.url}#huge")
    engine = open_remote(options)
    assert engine is not None
    dialogue = engine.open(options, Unobserved())
    await dialogue.follow(turn(1, "How long?", over=True))
    with pytest.raises(StageError, match="has no model 'huge' but small, large"):
        await draw(dialogue)
    await dialogue.close()
    await engine.close()


async def test_a_wrong_key_and_the_right_one(
    server: ScriptedLlmServer, options: LlmOptions
) -> None:
    server.key = "sesame"
    for key, says in (("", "wants a key; set TEXTPRO"), ("guess", "refuses the key; mend TEXTPRO")):
        engine = open_remote(replace(options, api_key=key))
        assert engine is not None
        with pytest.raises(StageError, match=says) as caught:
            await engine.check()
        assert "guess" not in str(caught.value)
        await engine.close()
    engine = open_remote(replace(options, api_key="sesame"))
    assert engine is not None
    assert await engine.check()
    await engine.close()


async def test_a_server_without_a_list_of_models_serves(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.models = None
    assert (await ask(dialogue, 1, "How long?")).text == "Fine."


async def test_a_server_with_an_empty_list_wants_to_be_told(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.models = []
    await dialogue.follow(turn(1, "How long?", over=True))
    with pytest.raises(StageError, match=r"has no model; write its address as http.*#MODEL"):
        await draw(dialogue)


async def test_a_server_that_does_not_stream_is_understood(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    whole = '{"choices": [{"message": {"content": "Noon."}, "finish_reason": "stop"}]}'
    server.replies.append(Sends(whole, "application/json"))
    assert (await ask(dialogue, 1, "What time is it?")).text == "Noon."


async def test_an_aside_that_is_too_long_is_asked_wrongly(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies.append(Refuses(400, '{"error": "exceeds the context"}'))
    aside = ReplyOptions(messages=(Message("m", "user", "x"),))
    with pytest.raises(ConfigError, match="exceeds the context"):
        await draw(dialogue, 1, aside)


async def test_nothing_but_a_reply_waits_for_a_server_that_stands_still(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.prefills += [Hangs()] * 3
    async with asyncio.timeout(5):
        await dialogue.follow(turn(1, "How"))
        await server.until(n_prefills=1)
        await dialogue.follow(turn(1, "How long"))
        await dialogue.close_turn(None)
        await dialogue.rest()
        await dialogue.follow(turn(2, "And"))
        await dialogue.close()
