"""A conversation over a scripted server: what it is asked, and what is remembered."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest
from remote_talk import ask, draw, turn
from scripted_llm_server import Hangs, Refuses, Says, ScriptedLlmServer

from textpro_stream.commands import Add, Configure, Remove, Truncate
from textpro_stream.config import LlmOptions
from textpro_stream.contracts import (
    GenerationEnd,
    Message,
    OpenTurn,
    Playout,
    ReplyOptions,
    TextDelta,
    Tool,
    ToolCall,
)
from textpro_stream.errors import ConfigError, StageError
from textpro_stream.llm.remote import RemoteDialogue, RemoteEngine
from textpro_stream.telemetry.trace import Unobserved

CLOCK = Tool("clock", "The time.", '{"type": "object", "properties": {"zone": {}}}')
SYSTEM = {"role": "system", "content": "Be brief."}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


# Reading along


async def test_words_are_read_while_they_are_spoken(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await dialogue.follow(turn(0))
    await server.until(n_prefills=1)  # the system prompt, before anybody speaks
    await dialogue.follow(turn(1, " How long"))
    await server.until(n_prefills=2)
    await dialogue.follow(turn(1, " How long should I"))
    await server.until(n_prefills=3)
    assert [asked.words for asked in server.prefilled] == ["", "How long", "How long should I"]
    await dialogue.follow(turn(1, " How long should I wait?", over=True))
    await draw(dialogue)
    (reply,) = server.replied
    assert reply.body["messages"] == [SYSTEM, user("How long should I wait?")]
    for asked in server.prefilled:  # the same but for the words' end, or it was read in vain
        assert asked.body["max_tokens"] == 1
        assert asked.body["messages"][:-1] == reply.body["messages"][:-1]
        assert asked.body["model"] == reply.body["model"] == "small"


async def test_one_request_at_a_time_reads_and_the_newest_words_win(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.prefills.append(Hangs())
    await dialogue.follow(turn(1, "How"))
    await server.until(n_prefills=1)
    for words in ("How long", "How long should", "How long should I"):
        await dialogue.follow(turn(1, words))  # returns, though the server stands still
    await dialogue.follow(turn(1, "How long should I wait", over=True))
    async with asyncio.timeout(20):
        await server.prefilled[0].left.wait()  # nobody reads any more
    await draw(dialogue)
    await dialogue.follow(turn(1, "How long should I wait for"))
    await dialogue.follow(turn(1, "How long should I wait for you"))
    await server.until(n_prefills=2)
    assert [asked.words for asked in server.prefilled] == ["How", "How long should I wait for you"]


async def test_reading_along_can_be_switched_off(
    engine: RemoteEngine, options: LlmOptions, server: ScriptedLlmServer
) -> None:
    dialogue = engine.open(replace(options, prefill=False), Unobserved())
    await dialogue.follow(turn(0))
    await dialogue.follow(turn(1, "How long"))
    assert (await ask(dialogue, 1, "How long?")).text == "Fine."
    assert not server.prefilled
    await dialogue.close()


async def test_faults_of_reading_along_are_no_ones_business_but_the_engines(
    dialogue: RemoteDialogue, engine: RemoteEngine, server: ScriptedLlmServer
) -> None:
    server.prefills.append(Refuses(503, '{"error": {"message": "Loading model"}}'))
    await dialogue.follow(turn(1, "How"))
    async with asyncio.timeout(20):
        while not engine.fault:  # noqa: ASYNC110 - it is no event
            await asyncio.sleep(0)
    assert "503: Loading model" in engine.fault
    assert (await ask(dialogue, 1, "How long?")).text == "Fine."
    assert engine.fault == ""


# Replies


async def test_a_reply_comes_piece_by_piece_and_tells_what_was_cached(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies.append(Says(("Four", " minutes", ".")))
    await dialogue.follow(turn(1, "How long?", over=True))
    deltas = [delta async for delta in dialogue.reply(1, ReplyOptions())]
    assert deltas == [
        TextDelta("Four"),
        TextDelta(" minutes"),
        TextDelta("."),
        GenerationEnd("stop", prompt_tokens=40, cached_tokens=32),
    ]


@pytest.mark.parametrize(
    ("says", "end"),
    [
        (Says(finish="length"), GenerationEnd("length", 40, 32)),
        (Says(usage=None), GenerationEnd("stop")),
        (Says(usage={"prompt_tokens": 7}), GenerationEnd("stop", 7)),
        (Says(usage=None, timings={"cache_n": 5, "prompt_n": 3}), GenerationEnd("stop", 8, 5)),
    ],
)
async def test_how_a_reply_ended(
    dialogue: RemoteDialogue, server: ScriptedLlmServer, says: Says, end: GenerationEnd
) -> None:
    server.replies.append(says)
    assert (await ask(dialogue, 1, "How long?")).end == end


async def test_closing_a_reply_closes_its_request(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies.append(Says(("Four",), stall=True))
    await dialogue.follow(turn(1, "How long?", over=True))
    async with aclosing(dialogue.reply(1, ReplyOptions())) as reply:
        assert await anext(reply) == TextDelta("Four")
    async with asyncio.timeout(20):
        await server.replied[0].left.wait()


async def test_a_reply_ends_when_the_speaker_goes_on(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies.append(Says(("Four",), stall=True))
    await dialogue.follow(turn(1, "How long", over=True))
    async with aclosing(dialogue.reply(1, ReplyOptions())) as reply:
        assert await anext(reply) == TextDelta("Four")
        await dialogue.follow(turn(1, "How long", over=True))  # nothing new: it goes on
        waiting = asyncio.ensure_future(anext(reply, None))
        await asyncio.sleep(0)
        assert not waiting.done()
        await dialogue.follow(turn(1, "How long should I"))
        assert await waiting is None
    async with asyncio.timeout(20):
        await server.replied[0].left.wait()
    assert (await ask(dialogue, 1, "How long should I wait?")).text == "Fine."
    assert server.replied[-1].body["messages"] == [SYSTEM, user("How long should I wait?")]


async def test_a_reply_drawn_again_begins_anew(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies += [Says(("Four", " minutes")), Says(("Five",))]
    await dialogue.follow(turn(1, "How long?", over=True))
    async with aclosing(dialogue.reply(1, ReplyOptions())) as reply:
        await anext(reply)
    assert (await draw(dialogue)).text == "Five"
    await dialogue.close_turn(Playout())
    assert dialogue.messages[-1] == Message("a1", "assistant", "Five")


async def test_sampling_is_asked_for(
    engine: RemoteEngine, options: LlmOptions, server: ScriptedLlmServer
) -> None:
    options = replace(options, temperature=0.5, top_p=0.9, seed=3, max_tokens=20)
    dialogue = engine.open(options, Unobserved())
    await ask(dialogue, 4, "How long?")
    body = server.replied[0].body
    sampling = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "max_tokens": 20}
    assert body | sampling == body
    assert "repetition_penalty" not in body  # unknown to some servers
    await dialogue.close()


async def test_a_connection_serves_many_requests(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    for number in range(1, 6):
        await ask(dialogue, number, "How long?")
    assert server.connections == 1


# What is remembered


async def test_a_turn_leaves_what_was_said_and_what_was_heard(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies.append(Says(("Four", " minutes", ".")))
    await ask(dialogue, 1, " How long?", heard=6)
    await ask(dialogue, 2, " And rice?")
    assert dialogue.messages == (
        Message("u1", "user", "How long?"),
        Message("a1", "assistant", "Four m"),
        Message("u2", "user", "And rice?"),
        Message("a2", "assistant", "Fine."),
    )
    assert server.replied[1].body["messages"] == [
        SYSTEM,
        user("How long?"),
        assistant("Four m"),
        user("And rice?"),
    ]


async def test_nothing_heard_is_not_told_and_one_speaker_speaks_once(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await ask(dialogue, 1, "How long?", heard=0)
    await dialogue.follow(turn(2, "I mean eggs.", over=True))
    await dialogue.close_turn(None)  # remembered, not replied to
    await ask(dialogue, 3, "And rice?")
    assert [m.id for m in dialogue.messages] == ["u1", "a1", "u2", "u3", "a3"]
    assert server.replied[-1].body["messages"] == [
        SYSTEM,
        user("How long?\nI mean eggs.\nAnd rice?"),
    ]


async def test_a_turn_without_words_leaves_no_trace(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await dialogue.follow(turn(1, "Hm"))
    await dialogue.follow(turn(1))
    await dialogue.close_turn(None)
    assert dialogue.messages == ()
    await ask(dialogue, 2, "How long?")
    assert server.replied[0].body["messages"] == [SYSTEM, user("How long?")]


async def test_what_is_remembered_can_be_replied_to(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await dialogue.edit(Add(Message("m", "user", "It is noon.")))
    await dialogue.follow(OpenTurn(1, over=True))
    await draw(dialogue, 1)
    await dialogue.close_turn(Playout())
    assert server.replied[0].body["messages"] == [SYSTEM, user("It is noon.")]
    assert [m.id for m in dialogue.messages] == ["m", "a1"]


async def test_edits_change_the_next_prompt(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await ask(dialogue, 1, "How long?")
    await ask(dialogue, 2, "And rice?")
    await dialogue.edit(Add(Message("first", "user", "Hello."), after=""))
    await dialogue.edit(Add(Message("reply", "assistant", "Hi."), after="first"))
    await dialogue.edit(Truncate("a1", 3))
    await dialogue.edit(Truncate("a1", 30))
    await dialogue.edit(Remove("u2"))
    await dialogue.edit(Configure(llm=replace(LlmOptions(), system_prompt="Sing.")))
    await ask(dialogue, 3, "And now?")
    assert server.replied[-1].body["messages"] == [
        {"role": "system", "content": "Sing."},
        user("Hello."),
        assistant("Hi."),
        user("How long?"),
        assistant("Fin\nFine."),
        user("And now?"),
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (Add(Message("u1", "user", "x")), "there is a message 'u1' already"),
        (Add(Message("m", "user", "x"), after="z"), "there is no message 'z'"),
        (Remove("z"), "there is no message 'z'"),
        (Truncate("z", 1), "there is no message 'z'"),
        (Truncate("u1", 1), "'u1' is no reply"),
        (Add(Message("m", "user", "x" * 9000)), "no room for message 'm'"),
    ],
)
async def test_an_edit_that_cannot_be_changes_nothing(
    dialogue: RemoteDialogue, change: Add | Remove | Truncate, says: str
) -> None:
    await ask(dialogue, 1, "How long?")
    before = dialogue.messages
    with pytest.raises(StageError, match=says):
        await dialogue.edit(change)
    assert dialogue.messages == before


async def test_an_edit_makes_what_was_drawn_void(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies.append(Says(("Four",), stall=True))
    await dialogue.follow(turn(1, "How long?", over=True))
    async with aclosing(dialogue.reply(1, ReplyOptions())) as reply:
        await anext(reply)
        await dialogue.edit(Add(Message("m", "user", "Be quick.")))
        assert await anext(reply, None) is None


async def test_a_system_prompt_without_room_is_refused(dialogue: RemoteDialogue) -> None:
    with pytest.raises(ConfigError, match="context 2048 is too small"):
        await dialogue.edit(Configure(llm=replace(LlmOptions(), system_prompt="x" * 9000)))
    assert (await ask(dialogue, 1, "How long?")).text == "Fine."


# Aside


async def test_other_messages_are_replied_to_aside(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await ask(dialogue, 1, "How long?")
    await dialogue.follow(turn(2, "And"))
    aside = ReplyOptions(
        instructions="Sing.", max_tokens=5, messages=(Message("x", "user", "A song?"),)
    )
    await draw(dialogue, 7, aside)
    await dialogue.close_turn(Playout())
    body = server.replied[-1].body
    assert body["messages"] == [{"role": "system", "content": "Sing."}, user("A song?")]
    assert body["max_tokens"] == 5
    await draw(dialogue, 8, ReplyOptions(remember=False))
    assert server.replied[-1].body["messages"] == [
        SYSTEM,
        user("How long?"),
        assistant("Fine.\nFine."),
    ]
    await dialogue.close_turn(Playout())
    assert [m.id for m in dialogue.messages] == ["u1", "a1", "a7"]
    await ask(dialogue, 2, "And rice?")
    assert server.replied[-1].body["messages"][-1] == user("And rice?")
    assert server.replied[-1].body["max_tokens"] == 80


async def test_instructions_hold_for_one_reply(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await dialogue.follow(turn(1, "How long?", over=True))
    await draw(dialogue, 1, ReplyOptions(instructions="Sing."))
    await dialogue.close_turn(Playout())
    await ask(dialogue, 2, "And rice?")
    systems = [asked.body["messages"][0]["content"] for asked in server.replied]
    assert systems == ["Sing.", "Be brief."]
    assert [m.id for m in dialogue.messages] == ["u1", "a1", "u2", "a2"]


# Tools


def call(index: int, name: str, *arguments: str) -> list[dict[str, object]]:
    pieces: list[dict[str, object]] = [
        {"tool_calls": [{"index": index, "id": "c", "function": {"name": name, "arguments": ""}}]}
    ]
    pieces += [
        {"tool_calls": [{"index": index, "function": {"arguments": part}}]} for part in arguments
    ]
    return pieces


async def test_tools_go_there_and_calls_come_back(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await dialogue.edit(Configure(tools=(CLOCK,)))
    server.replies.append(
        Says(["Let me see.", *call(0, "clock", '{"zo', 'ne": "utc"}'), *call(1, "clock")])
    )
    drawn = await ask(dialogue, 1, "What time is it?")
    calls = (ToolCall("clock", '{"zone": "utc"}'), ToolCall("clock", "{}"))
    assert (drawn.text, drawn.calls) == ("Let me see.", calls)
    assert dialogue.messages[-1] == Message("a1", "assistant", "Let me see.", calls)
    await dialogue.edit(Add(Message("r1", "tool", "noon")))
    await dialogue.edit(Add(Message("r2", "tool", "noon here too")))
    await dialogue.follow(OpenTurn(2, over=True))
    assert (await draw(dialogue, 2)).text == "Fine."
    body = server.replied[-1].body
    assert [tool["function"]["name"] for tool in body["tools"]] == ["clock"]
    asked, first, second = body["messages"][-3:]
    assert asked["tool_calls"][0]["function"]["arguments"] == '{"zone": "utc"}'
    ids = [told["id"] for told in asked["tool_calls"]]
    assert [first["tool_call_id"], second["tool_call_id"]] == ids
    assert len(set(ids)) == 2


async def test_calls_that_were_not_told_are_forgotten(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies.append(Says(["Let me see.", *call(0, "clock", "{}")]))
    await dialogue.follow(turn(1, "What time is it?", over=True))
    await draw(dialogue)
    await dialogue.close_turn(Playout(3, calls_told=False))
    assert dialogue.messages[-1] == Message("a1", "assistant", "Let")


async def test_a_call_that_the_server_left_in_the_text_is_found(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    await dialogue.edit(Configure(tools=(CLOCK,)))
    pieces = ("<tool", '_call>{"name": "clock", "argum', 'ents": {}}</tool_call>')
    server.replies.append(Says(pieces))
    drawn = await ask(dialogue, 1, "What time is it?")
    assert (drawn.text, drawn.calls) == ("", (ToolCall("clock", "{}"),))


async def test_a_call_that_cannot_be_read_is_an_error(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.replies.append(Says(call(0, "clock", '{"zone')))
    with pytest.raises(StageError, match="called 'clock' with what is no JSON object"):
        await ask(dialogue, 1, "What time is it?")


async def test_a_tool_that_cannot_be_told_is_refused(dialogue: RemoteDialogue) -> None:
    with pytest.raises(ConfigError, match="its parameters are no JSON object"):
        await dialogue.edit(Configure(tools=(Tool("clock", "", "[]"),)))


# Context


async def test_the_oldest_turns_are_forgotten_as_a_whole(
    engine: RemoteEngine, options: LlmOptions, server: ScriptedLlmServer
) -> None:
    dialogue = engine.open(replace(options, context=512), Unobserved())
    assert isinstance(dialogue, RemoteDialogue)
    server.replies += [Says(usage=None)] * 8
    for number in range(1, 9):
        await ask(dialogue, number, "So tell me more about the sea. " * 8)
    first = dialogue.messages[0]
    assert first.role == "user"
    assert first.id != "u1"
    sent = server.replied[-1].body["messages"]
    assert sent[0] == SYSTEM
    assert sum(len(m["content"]) for m in sent) < 512 / 0.2
    await dialogue.edit(Add(Message("m", "user", "Hi."), after="u1"))  # where it would have been
    assert dialogue.messages[0].id == "m"
    await dialogue.close()


async def test_a_turn_too_long_is_told_once_and_its_beginning_read(
    engine: RemoteEngine, options: LlmOptions, server: ScriptedLlmServer
) -> None:
    dialogue = engine.open(replace(options, context=256, prefill=False), Unobserved())
    long = "one two three " * 100
    with pytest.raises(StageError, match=r"longer than .llm. context 256 allows"):
        await dialogue.follow(turn(1, long))
    await dialogue.follow(turn(1, long, over=True))
    await draw(dialogue)
    words = server.replied[0].words
    assert long.startswith(words)
    assert 100 < len(words) < 1000
    await dialogue.close()


async def test_the_servers_context_counts_where_it_tells(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    server.models = [{"id": "small", "owned_by": "vllm", "max_model_len": 8000}]
    await ask(dialogue, 1, "Hello")
    await dialogue.edit(Add(Message("m", "user", "x" * 9000)))


async def test_a_prompt_that_the_server_finds_too_long_is_shortened(
    dialogue: RemoteDialogue, server: ScriptedLlmServer
) -> None:
    for number in (1, 2, 3):
        await ask(dialogue, number, "So tell me more about the sea. " * 20)
    told = {"message": "exceeds the available context size", "n_prompt_tokens": 9000}
    server.replies.append(Says((), error=told))
    assert (await ask(dialogue, 4, "How long?")).text == "Fine."
    assert server.replied[-1].body["messages"] == [SYSTEM, user("How long?")]
    assert [m.id for m in dialogue.messages] == ["u4", "a4"]


# Kinds of servers


async def test_llama_cpp_keeps_a_slot_for_each_conversation(
    engine: RemoteEngine, options: LlmOptions, server: ScriptedLlmServer
) -> None:
    server.models = [{"id": "small", "owned_by": "llamacpp", "meta": {"n_ctx": 4096}}]
    server.slots = 2
    talks = [engine.open(options, Unobserved()) for _ in range(3)]
    for talk in talks:
        await ask(talk, 1, "How long?")
    assert [asked.body.get("id_slot") for asked in server.replied] == [0, 1, None]
    assert server.replied[0].body["cache_prompt"] is True
    assert server.replied[0].body["repeat_penalty"] == 1.1
    await talks[0].rest()
    await ask(talks[2], 2, "And rice?")
    assert server.replied[-1].body["id_slot"] == 0
    await draw(talks[1], 2, ReplyOptions(remember=False))  # would push the conversation out of it
    assert "id_slot" not in server.replied[-1].body
    for talk in talks:
        await talk.close()


async def test_the_engine_says_who_replies(engine: RemoteEngine, server: ScriptedLlmServer) -> None:
    server.models = [{"id": "small", "owned_by": "vllm", "max_model_len": 8000}]
    said = await engine.check()
    assert said == f"small at {server.url} by vllm, 8000 tokens of context"
    assert engine.facts == {"address": server.url, "model": "small", "engine": "vllm"}
    assert engine.knows_tools
    assert "words only" in engine.notice
