"""What somebody who feeds audio and reads events sees of whole conversations."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import ScriptedDialogue, ScriptedVoice, chunks, sound

from textpro_stream.commands import Interrupt, Played, Press, Release
from textpro_stream.contracts import AudioChunk, seconds
from textpro_stream.errors import StageError
from textpro_stream.events import (
    Event,
    Failed,
    Finished,
    HypothesisChanged,
    ProsodyUpdated,
    ReplyAudio,
    ReplyDucked,
    ReplyEnded,
    ReplyGiven,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    TurnEager,
    TurnEnded,
    TurnLatency,
    TurnResumed,
    WordsCommitted,
)
from textpro_stream.telemetry.waterfall import discrepancy

QUESTION = sound(("silence", 0.5), ("voice", 1.0), ("silence", 1.5))


def of(events: list[Event], *kinds: type) -> list[Event]:
    return [event for event in events if isinstance(event, kinds)]


def told(events: list[Event]) -> list[tuple[object, ...]]:
    """Everything about words and turns, nothing about when the machine got round to it."""
    seen: list[tuple[object, ...]] = []
    for event in events:
        match event:
            case WordsCommitted():
                seen.append(("words", event.turn, event.at, event.text))
            case HypothesisChanged():
                seen.append(("tail", event.turn, event.at, event.text))
            case ProsodyUpdated():
                seen.append(("prosody", event.turn, event.at, event.window.start))
            case SpeechStarted() | SpeechStopped() | TurnEager() | TurnResumed():
                seen.append((type(event).__name__, event.turn, event.at))
            case TurnEnded():
                seen.append(("end", event.turn, event.at, event.transcript, event.reason))
            case ReplyEnded():
                seen.append(("reply", event.turn, event.text, event.reason))
            case _:
                pass
    return seen


async def test_a_question_is_answered(stand) -> None:
    events = await stand.run(QUESTION)
    order = [type(event) for event in events if not isinstance(event, HypothesisChanged)]
    assert order[0] is SpeechStarted
    assert order[-2:] == [TurnLatency, Finished]
    assert order.index(TurnEager) < order.index(TurnEnded) < order.index(ReplyStarted)
    (ended,) = of(events, TurnEnded)
    assert ended.transcript == " What time is it?"
    assert "".join(e.text for e in of(events, WordsCommitted)) == ended.transcript
    assert ended.reason == "complete"
    assert ended.at == pytest.approx(2.0 * 16000, abs=960)  # 1.5 s of speech end + 0.5 s
    assert "".join(e.text for e in of(events, ReplyText)) == "It is noon. Really."
    assert of(events, ReplyEnded) == [ReplyEnded(1, ended.at, "It is noon. Really.", "stop")]
    assert of(events, ReplyAudio)[-1].chunk.text_end == len("It is noon. Really.")
    finished = events[-1]
    assert (finished.turns, finished.words, finished.at) == (1, 4, len(QUESTION))
    assert [(m.id, m.text) for m in stand.dialogue.messages] == [
        ("u1", " What time is it?"),
        ("a1", "It is noon. Really."),
    ]


async def test_nothing_of_the_reply_is_seen_before_the_endpoint(stand) -> None:
    events = await stand.run(QUESTION)
    end = next(i for i, event in enumerate(events) if isinstance(event, TurnEnded))
    replies = (ReplyStarted, ReplyText, ReplyAudio, ReplyEnded)
    assert not of(events[:end], *replies)
    assert of(events[end:], *replies)


async def test_the_words_of_the_draft_are_not_heard_twice(stand) -> None:
    await stand.run(QUESTION)
    assert stand.dialogue.messages[0].text == " What time is it?"
    assert stand.dialogue.begun == [" What time is it?"]


async def test_the_preview_is_what_was_committed_and_costs_nothing_again(stand) -> None:
    events = await stand.run(QUESTION)
    assert stand.script.previews == 1
    tail = of(events, HypothesisChanged)
    assert tail[-1].text == ""  # nothing is left open behind a turn


async def test_a_pause_inside_a_turn_drops_the_draft(stand) -> None:
    audio = sound(("silence", 0.5), ("voice", 0.6), ("silence", 0.4), ("voice", 0.6))
    stand.script.words = [(" What", 0.8), (" time and", 1.05), (" date?", 2.0)]
    events = await stand.run(np.concatenate([audio, sound(("silence", 1.5))]))
    kinds = [type(e) for e in of(events, TurnEager, TurnResumed, TurnEnded)]
    assert kinds == [TurnEager, TurnResumed, TurnEager, TurnEnded]
    assert of(events, TurnEnded)[0].transcript == " What time and date?"
    assert stand.dialogue.begun == [" What time and", " What time and date?"]
    assert len(of(events, ReplyEnded)) == 1
    (latency,) = of(events, TurnLatency)
    assert latency.marks["spec_waste"] >= 0


async def test_nothing_is_drafted_at_a_pause_that_is_over_long_before_it_would_be_an_end(
    stand,
) -> None:
    stand.options = replace(stand.options, draft_ms=200)
    stand.script.words = [(" What", 0.8), (" time and", 1.05), (" date?", 2.0)]
    parts = (("silence", 0.5), ("voice", 0.6), ("silence", 0.5), ("voice", 0.6), ("silence", 1.5))
    events = await stand.run(sound(*parts))
    kinds = [type(e) for e in of(events, SpeechStopped, TurnEager, TurnResumed, TurnEnded)]
    assert kinds == [SpeechStopped, SpeechStopped, TurnEager, TurnEnded]
    assert stand.dialogue.begun == [" What time and date?"]
    (eager,), (ended,) = of(events, TurnEager), of(events, TurnEnded)
    assert seconds(ended.at - eager.at) == pytest.approx(0.2, abs=0.1)


async def test_a_sound_without_words_gets_no_reply(stand) -> None:
    stand.script.words = []
    events = await stand.run(QUESTION)
    (ended,) = of(events, TurnEnded)
    assert (ended.transcript, ended.reason) == ("", "no_words")
    assert not of(events, TurnEager, ReplyStarted, ReplyEnded, TurnLatency, WordsCommitted)
    assert not stand.dialogue.read
    assert not stand.dialogue.messages
    assert events[-1].turns == 0


async def test_silence_is_silent(stand) -> None:
    events = await stand.run(sound(("silence", 3.0)))
    assert [type(event) for event in events] == [Finished]


async def test_audio_that_ends_in_a_word_still_ends_the_turn(stand) -> None:
    events = await stand.run(sound(("silence", 0.5), ("voice", 1.0)))
    (ended,) = of(events, TurnEnded)
    assert (ended.transcript, ended.reason) == (" What time is it?", "end_of_audio")
    assert of(events, ReplyEnded)


async def test_an_empty_stream_finishes(stand) -> None:
    assert [type(event) for event in await stand.run([])] == [Finished]


async def test_two_turns_are_answered_in_order(stand) -> None:
    stand.script.words += [(" And", 3.7), (" now?", 4.2)]
    second = sound(("voice", 1.0), ("silence", 1.5))
    events = await stand.run(np.concatenate([QUESTION, sound(("silence", 0.5)), second]))
    assert [(e.turn, e.transcript) for e in of(events, TurnEnded)] == [
        (1, " What time is it?"),
        (2, " And now?"),
    ]
    assert [e.turn for e in of(events, ReplyEnded)] == [1, 2]
    assert [m.id for m in stand.dialogue.messages] == ["u1", "a1", "u2", "a2"]
    assert [turn.number for turn in stand.dialogue.read] == sorted(
        turn.number for turn in stand.dialogue.read
    )
    assert stand.script.opened_at[1] >= stand.script.opened_at[0] + 16000


async def test_the_recognizer_hears_from_before_the_voice(stand) -> None:
    await stand.run(QUESTION)
    (start,) = stand.script.opened_at
    assert 0 < start <= 0.1 * 16000 + 320  # 0.4 s of pre-roll before 0.5 s


async def test_without_a_mind_it_stops_after_the_transcript(stand) -> None:
    stand.dialogue = None
    events = await stand.run(QUESTION)
    assert of(events, TurnEnded)
    assert not of(events, ReplyStarted, ReplyEnded)
    assert of(events, TurnLatency)[0].marks["endpoint_wait"] == pytest.approx(0.5, abs=0.06)


async def test_without_a_voice_it_replies_in_text(stand) -> None:
    stand.voice = None
    events = await stand.run(QUESTION)
    assert of(events, ReplyEnded)[0].text == "It is noon. Really."
    assert not of(events, ReplyAudio)


async def test_typed_turns_are_answered_too(stand) -> None:
    async with stand.open(live=True) as talk:
        await talk.say("Good morning")
        await talk.finish()
        events = [event async for event in talk]
    assert of(events, TurnEnded) == [TurnEnded(1, 0, "Good morning", "typed")]
    assert of(events, ReplyEnded)[0].text == "It is noon. Really."
    assert [m.text for m in stand.dialogue.messages] == ["Good morning", "It is noon. Really."]


async def test_a_turn_too_long_for_the_llm_is_told_and_answered(stand) -> None:
    stand.dialogue.fails_at = "length"
    events = await stand.run(QUESTION)
    assert [(e.code, e.message) for e in of(events, Failed)] == [("stage", "too long")]
    assert of(events, ReplyEnded)[0].reason == "stop"


async def test_every_part_of_the_latency_adds_up(stand) -> None:
    events = await stand.run(QUESTION)
    (latency,) = of(events, TurnLatency)
    assert {"endpoint_wait", "ttft_ready", "server_perceived"} <= set(latency.marks)
    assert abs(discrepancy(latency.marks)) < 0.010


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 48_000), max_size=12), live=st.booleans())
def test_cutting_differently_changes_nothing(stand, cuts: list[int], live: bool) -> None:
    async def both() -> None:
        plain = stand.with_options(barge_in=False)
        whole = await replace(plain, dialogue=ScriptedDialogue()).run(QUESTION)
        parts = chunks(QUESTION, cuts)
        cut = await replace(plain, dialogue=ScriptedDialogue()).run(parts, live=live)
        assert told(cut) == told(whole)

    asyncio.run(both())


async def test_a_failing_recognizer_costs_the_turn_and_not_the_conversation(stand) -> None:
    stand.script.recognizer_fails_at_s, stand.script.failures = 1.0, 1
    events = await stand.run(np.tile(QUESTION, 2))
    failed, ended = of(events, Failed)[0], of(events, TurnEnded)[0]
    assert (failed.code, events.index(failed)) == ("asr", events.index(ended) - 1)
    assert "scripted failure" in failed.message
    assert (ended.reason, ended.replies) == ("failed", False)
    assert stand.health.faults["asr"] == 1
    assert [event.turn for event in of(events, TurnEnded)][:2] == [1, 2]
    assert isinstance(events[-1], Finished)


async def test_a_recognizer_that_always_fails_ends_the_conversation(stand) -> None:
    stand.script.recognizer_fails_at_s = 0.0
    async with stand.open() as talk:
        with pytest.raises(StageError, match="scripted failure"):
            await talk.push(AudioChunk(np.tile(QUESTION, 8), 0))
        events = [event async for event in talk]
    assert [type(event) for event in events[-2:]] == [Failed, Finished]
    assert not stand.health.healthy


async def test_an_llm_that_fails_at_first_is_asked_again(stand) -> None:
    stand.dialogue.fails_at = "draft"
    events = await stand.run(QUESTION)
    (ended,) = of(events, ReplyEnded)
    assert (ended.text, ended.reason) == ("It is noon. Really.", "stop")
    assert stand.dialogue.rests == 1
    assert stand.health.faults["llm"] == 1


async def test_an_llm_that_fails_in_a_reply_ends_the_reply(stand) -> None:
    stand.dialogue.fails_at_piece = 4
    events = await stand.run(QUESTION)
    (ended,) = of(events, ReplyEnded)
    assert (ended.text, ended.reason) == ("It is noon. Really", "failed")
    (failed, *_) = of(events, Failed)
    assert failed.code == "llm"
    assert "scripted LLM failure" in failed.message
    kinds = [type(event) for event in events if event.turn == 1]
    assert kinds[-3:] == [ReplyEnded, TurnLatency, Finished]
    assert ReplyGiven not in kinds
    assert stand.dialogue.messages[-1].text == "It is noon. Really"


async def test_a_failing_voice_leaves_the_text(stand) -> None:
    stand.voice = ScriptedVoice(fails=StageError("the voice is hoarse"))
    events = await stand.run(QUESTION)
    assert [e.message for e in of(events, Failed)] == ["the voice is hoarse"]
    assert of(events, ReplyEnded)[0] == ReplyEnded(
        1, of(events, TurnEnded)[0].at, "It is noon. Really.", "stop"
    )
    assert isinstance(events[-1], Finished)


async def test_a_failing_source_is_reported(stand) -> None:
    async def source():
        for chunk in chunks(QUESTION[:16000]):
            yield chunk
        raise OSError("pulled the plug")

    async with stand.open() as talk:
        talk.feed(source())
        events = [event async for event in talk]
    assert "pulled the plug" in of(events, Failed)[0].message
    assert isinstance(events[-1], Finished)


async def test_gaps_in_the_audio_keep_what_follows_in_place(stand) -> None:
    parts = chunks(QUESTION)
    events = await stand.run([parts[0], *parts[2:]])
    assert of(events, TurnEnded)[0].transcript == " What time is it?"
    assert isinstance(parts[2], AudioChunk)


def tasks() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("n_events", [0, 1, 3, 5, 8, 12, 15])
async def test_leaving_at_any_time_ends_every_task(stand, n_events: int) -> None:
    before = tasks()
    async with stand.open(live=True) as talk:
        for chunk in chunks(QUESTION[:40000]):
            await talk.push(chunk)
        for _ in range(n_events):
            await asyncio.wait_for(anext(talk), 5)
    assert tasks() == before
    assert stand.voice.open_streams == 0


async def test_an_exception_in_the_block_ends_every_task_too(stand) -> None:
    before = tasks()
    try:
        async with stand.open() as talk:
            await talk.push(chunks(QUESTION)[0])
            raise KeyError
    except KeyError:
        pass
    assert tasks() == before


class TestBargeIn:
    """Somebody speaks over the reply. Time is the audio's: the player reports by hand."""

    OVER = sound(("voice", 0.5), ("silence", 1.5))

    async def until(self, talk, kind: type) -> list[Event]:
        seen = []
        while not seen or not isinstance(seen[-1], kind):
            seen.append(await asyncio.wait_for(anext(talk), 5))
        return seen

    async def push(self, talk, samples: np.ndarray, start: int) -> int:
        for chunk in chunks(samples):
            await talk.push(AudioChunk(chunk.samples, start + chunk.start))
        return start + len(samples)

    @pytest.fixture
    def slow(self, stand):
        """A clock that stands still: what was heard is only what the player says."""

        class StandingClock:
            def now(self) -> float:
                return 0.0

            def cpu(self) -> float:
                return 0.0

            async def sleep_until(self, moment: float) -> None:
                await asyncio.sleep(0.001)

        stand.clock = StandingClock()
        return stand

    async def test_it_stops_the_reply_and_crops_the_memory(self, slow) -> None:
        slow.script.words.append((" Stop", 3.4))
        async with slow.open(live=True) as talk:
            at = await self.push(talk, QUESTION, 0)
            await self.until(talk, ReplyAudio)
            await talk.push(Played(1, 250))  # two and a half words at 1000 Hz and 100 ms a word
            await asyncio.sleep(0.01)
            await self.push(talk, self.OVER, at)
            events = await self.until(talk, ReplyEnded)
            assert events[-1].reason == "barge_in"
            assert events[-1].text == "It is"
            assert of(events, ReplyDucked)[0].ducked
            assert not of(events[events.index(of(events, ReplyDucked)[0]) :], ReplyAudio)
            await talk.finish()
            events += [event async for event in talk]
        assert [m.text for m in slow.dialogue.messages][:2] == [" What time is it?", "It is"]
        assert of(events, TurnEnded)[-1].transcript == " Stop"

    async def test_a_cough_only_ducks(self, slow) -> None:
        cough = sound(("voice", 0.15), ("silence", 1.0))
        async with slow.open(live=True) as talk:
            at = await self.push(talk, QUESTION, 0)
            await self.until(talk, ReplyAudio)
            await talk.push(Played(1, 100))
            await self.push(talk, cough, at)
            events = await self.until(talk, ReplyDucked) + await self.until(talk, ReplyDucked)
            assert [e.ducked for e in of(events, ReplyDucked)] == [True, False]
            await talk.push(Played(1, 10_000))
            assert (await self.until(talk, ReplyEnded))[-1].reason == "stop"

    async def test_mm_hmm_only_ducks_and_wants_no_reply(self, slow) -> None:
        slow.script.words.append((" Mm-hmm.", 3.2))
        nodding = sound(("voice", 0.6), ("silence", 1.6))
        async with slow.open(live=True) as talk:
            at = await self.push(talk, QUESTION, 0)
            await self.until(talk, ReplyAudio)
            await talk.push(Played(1, 100))
            await self.push(talk, nodding, at)
            nodded = (await self.until(talk, TurnEnded))[-1]
            assert (nodded.transcript, nodded.replies) == (" Mm-hmm.", False)
            await talk.push(Played(1, 10_000))
            assert (await self.until(talk, ReplyEnded))[-1].reason == "stop"
            await talk.finish()
            assert not of([event async for event in talk], ReplyEnded)

    async def test_switched_off_it_lets_the_reply_end(self, slow) -> None:
        deaf = slow.with_options(barge_in=False)
        deaf.script.words.append((" Stop", 3.4))
        async with deaf.open(live=True) as talk:
            at = await self.push(talk, QUESTION, 0)
            await self.push(talk, self.OVER, at)
            await talk.finish()
            events = [event async for event in talk]
        assert [e.reason for e in of(events, ReplyEnded)] == ["stop", "stop"]

    async def test_stop_cancels_the_reply(self, slow) -> None:
        async with slow.open(live=True) as talk:
            await self.push(talk, QUESTION, 0)
            await self.until(talk, ReplyAudio)
            await talk.push(Interrupt())
            assert (await self.until(talk, ReplyEnded))[-1].reason == "cancelled"
            await talk.push(Interrupt())  # nothing to stop: nothing happens

    async def test_the_key_opens_and_ends_a_turn(self, slow) -> None:
        keyed = slow.with_options(push_to_talk=True)
        async with keyed.open(live=True) as talk:
            at = await self.push(talk, QUESTION[:8000], 0)
            await talk.push(Press())
            at = await self.push(talk, QUESTION[8000:28800], at)
            await talk.push(Release())
            (ended,) = of(await self.until(talk, TurnEnded), TurnEnded)
            assert (ended.reason, ended.transcript) == ("pushed", " What time is it?")
            await self.until(talk, ReplyAudio)
            await talk.push(Press())  # the key alone interrupts
            assert (await self.until(talk, ReplyEnded))[-1].reason == "barge_in"
