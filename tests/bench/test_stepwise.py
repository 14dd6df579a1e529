"""Baselines over scripted neighbours: they must do nothing early, and nothing late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from scripted import OPTIONS, LevelVad, Script, ScriptedDialogue, ScriptedVoice, chunks, sound

from textpro_stream.bench.stepwise import (
    KINDS,
    SILENCE_MS,
    Kind,
    Parts,
    StepwiseConversation,
    sentence_ends,
)
from textpro_stream.clock import VirtualClock
from textpro_stream.commands import Finish, Interrupt
from textpro_stream.contracts import seconds
from textpro_stream.events import (
    Event,
    Failed,
    Finished,
    ReplyAudio,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ReplyText,
    TurnEnded,
    TurnLatency,
)
from textpro_stream.runtime.device import DeviceThread
from textpro_stream.telemetry.waterfall import discrepancy

QUESTION = [("silence", 0.5), ("voice", 1.0), ("silence", 1.0)]
WORDS = [(" What", 0.8), (" time", 1.1), (" is it?", 1.4)]
SENTENCES = ["It", " is", " noon", ".", " Really", "."]


@pytest.fixture
def device() -> Iterator[DeviceThread]:
    thread = DeviceThread("test device")
    yield thread
    thread.close()


@pytest.fixture
def parts(device: DeviceThread) -> Parts:
    script, dialogue = Script(WORDS), ScriptedDialogue(list(SENTENCES))
    return Parts(
        open_recognizer=lambda start, trace: script.open(start),
        open_dialogue=lambda trace: dialogue,
        voice=ScriptedVoice(),
        vad=LevelVad(),
        device=device,
        clock=VirtualClock(),
        turn=OPTIONS,
    )


async def run(parts: Parts, kind: Kind, *audio: tuple[str, float]) -> list[Event]:
    async with StepwiseConversation(parts, kind) as talk:
        for chunk in chunks(sound(*audio)):
            await talk.push(chunk)
        await talk.push(Finish())
        return [event async for event in talk]


def only(events: list[Event], kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turn_ends_after_the_fixed_silence_and_is_answered_once(parts, kind) -> None:
    events = await run(parts, kind, *QUESTION)
    (ended,) = only(events, TurnEnded)
    assert ended.transcript == " What time is it?"
    assert seconds(ended.at) == pytest.approx(1.5 + SILENCE_MS / 1000, abs=0.05)
    assert "".join(event.text for event in only(events, ReplyText)) == "".join(SENTENCES)
    (given,) = only(events, ReplyGiven)
    (finished,) = only(events, ReplyEnded)
    assert (given.text, finished.reason) == ("".join(SENTENCES), "stop")
    assert only(events, ReplyAudio)
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_parts_of_the_wait_add_up(parts, kind) -> None:
    (latency,) = only(await run(parts, kind, *QUESTION), TurnLatency)
    assert {"server_perceived", "ttft_ready", "endpoint_wait"} <= set(latency.marks)
    assert abs(discrepancy(latency.marks)) < 0.010
    assert latency.marks["ttft_ready"] >= 0


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_recognized_before_the_endpoint(parts, kind) -> None:
    opened: list[int] = []

    def open_recognizer(start, trace):
        opened.append(start)
        return Script(WORDS).open(start)

    watched = replace(parts, open_recognizer=open_recognizer)
    async with StepwiseConversation(watched, kind) as talk:
        for chunk in chunks(sound(*QUESTION[:2])):
            await talk.push(chunk)
        assert opened == []
        await talk.push(Finish())
        events = [event async for event in talk]
    assert len(opened) == 1
    assert len(only(events, TurnEnded)) == 1


async def test_record_then_run_speaks_the_whole_reply_at_once(parts) -> None:
    events = await run(parts, "record-then-run", *QUESTION)
    assert parts.voice.spoken == ["".join(SENTENCES)]
    kinds = [type(e) for e in events if isinstance(e, ReplyStarted | ReplyText | ReplyAudio)]
    assert kinds[:2] == [ReplyStarted, ReplyText]
    assert set(kinds[2:]) == {ReplyAudio}


async def test_sentence_streaming_speaks_sentence_by_sentence(parts) -> None:
    await run(parts, "sentence-streaming", *QUESTION)
    assert [text.strip() for text in parts.voice.spoken] == ["It is noon.", "Really."]
    assert parts.voice.open_streams == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_sound_without_words_is_not_answered(parts, kind) -> None:
    script = Script([])
    wordless = replace(parts, open_recognizer=lambda start, trace: script.open(start))
    events = await run(wordless, kind, *QUESTION)
    (ended,) = only(events, TurnEnded)
    assert (ended.reason, ended.replies) == ("no_words", False)
    assert not only(events, TurnLatency)


@pytest.mark.parametrize("kind", KINDS)
async def test_each_turn_is_recorded_alone(parts, kind) -> None:
    script = Script([*WORDS, (" And", 3.2), (" now?", 3.4)])
    longer = replace(parts, open_recognizer=lambda start, trace: script.open(start))
    events = await run(longer, kind, *QUESTION, ("silence", 0.5), ("voice", 0.6), ("silence", 1.0))
    assert [e.transcript for e in only(events, TurnEnded)] == [" What time is it?", " And now?"]
    assert len(only(events, TurnLatency)) == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stopped_reply_gives_its_marks_at_once(parts, kind) -> None:
    async with StepwiseConversation(parts, kind) as talk:
        for chunk in chunks(sound(*QUESTION)):
            await talk.push(chunk)
        events = []
        async for event in talk:
            events.append(event)
            if isinstance(event, ReplyAudio):
                await talk.push(Interrupt())
            if isinstance(event, TurnLatency):
                break
    assert only(events, ReplyEnded)[0].reason in ("cancelled", "stop")
    assert "first_audio" in only(events, TurnLatency)[0].marks


async def test_a_failing_stage_ends_the_conversation_with_one_line(parts) -> None:
    script = Script(WORDS, recognizer_fails_at_s=1.0)
    failing = replace(parts, open_recognizer=lambda start, trace: script.open(start))
    events = await run(failing, "record-then-run", *QUESTION)
    (failed,) = only(events, Failed)
    assert "scripted failure" in failed.message
    assert isinstance(events[-1], Finished)


def test_a_sentence_ends_once_the_next_begins() -> None:
    text = "It is 3.5 km. Go there! (Now.) Then"
    ends = sentence_ends(text, 0)
    assert [text[a:b].strip() for a, b in zip([0, *ends], [*ends, len(text)], strict=True)] == [
        "It is 3.5 km.",
        "Go there!",
        "(Now.)",
        "Then",
    ]
    assert sentence_ends("Wait.", 0) == []
    assert sentence_ends(text, ends[0]) == ends[1:]
