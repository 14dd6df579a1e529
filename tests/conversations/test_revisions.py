"""Committed words that hearing the whole turn changes: who is told, and what is replied to."""

from __future__ import annotations

from dataclasses import replace

from scripted import Script, sound
from stand import Stand

from textpro_stream.events import Event, TranscriptRevised, TurnEnded, TurnResumed, WordsCommitted

QUESTION = sound(("silence", 0.5), ("voice", 1.0), ("silence", 1.5))
WORDS = [(" What", 0.8), (" time", 1.1), (" is it?", 1.4)]


def revising(stand: Stand, *texts: str, kept: int = 1, words: object = None) -> Stand:
    script = Script(list(words or WORDS), revision=(kept, texts))
    return replace(stand, script=script)


def of(events: list[Event], kind: type) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


async def test_the_reply_is_to_the_words_as_they_are_in_the_end(stand: Stand) -> None:
    stand = revising(stand, " rhyme", " is it?")
    events = await stand.run(QUESTION)
    (revised,), (ended,) = of(events, TranscriptRevised), of(events, TurnEnded)
    assert revised.text == ended.transcript == " What rhyme is it?"
    assert events.index(revised) < events.index(ended)
    assert stand.dialogue.begun == [" What rhyme is it?"]  # drafted once, at the pause
    assert stand.dialogue.messages[0].text.strip() == "What rhyme is it?"


async def test_what_was_committed_is_told_as_ever(stand: Stand) -> None:
    before = [e.text for e in of(await stand.run(QUESTION), WordsCommitted)]
    after = of(await revising(stand, " rhyme", " is it?").run(QUESTION), WordsCommitted)
    assert [e.text for e in after] == before


async def test_the_same_words_in_other_marks_are_no_revision(stand: Stand) -> None:
    events = await revising(stand, " Time,", " is it.").run(QUESTION)
    assert not of(events, TranscriptRevised)
    assert of(events, TurnEnded)[0].transcript == " What time is it?"


async def test_words_do_not_vanish_altogether(stand: Stand) -> None:
    events = await revising(stand, kept=0).run(QUESTION)
    assert not of(events, TranscriptRevised)
    assert of(events, TurnEnded)[0].transcript == " What time is it?"


async def test_a_speaker_who_goes_on_is_revised_at_the_end_alone(stand: Stand) -> None:
    audio = sound(("silence", 0.5), ("voice", 1.0), ("silence", 0.4), ("voice", 0.8))
    words = [*WORDS, (" And where?", 2.5)]
    stand = revising(stand, " rhyme", " is it?", " And when?", words=words)
    events = await stand.run(audio)  # ends in the middle of speech: there is no second pause
    assert of(events, TurnResumed)
    assert [e.text for e in of(events, TranscriptRevised)] == [" What rhyme is it? And when?"]
    assert of(events, TurnEnded)[0].transcript == " What rhyme is it? And when?"
