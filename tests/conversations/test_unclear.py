"""Words that nobody would put money on: told, and not answered."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scripted import OPTIONS, Script, sound
from stand import Stand

from textpro_stream.events import ReplyStarted, TurnEnded, WordsCommitted

SOUND = sound(("silence", 0.5), ("voice", 1.0), ("silence", 1.5))
WORDS = [(" Bonjour", 0.8), (" kele la", 1.1), (" happy tally.", 1.4)]
UNSURE = -1.5  # logprob; a mean probability of 0.22


def unsure(stand: Stand, words: list[tuple[str, float]] = WORDS, **options: float) -> Stand:
    script = Script(words, logprob=UNSURE)
    return replace(stand, script=script, options=replace(OPTIONS, **options))


async def test_nonsense_is_told_and_neither_answered_nor_remembered(stand: Stand) -> None:
    stand = unsure(stand)
    events = await stand.run(SOUND)
    (ended,) = [event for event in events if isinstance(event, TurnEnded)]
    assert (ended.reason, ended.replies) == ("unclear", False)
    assert ended.transcript == " Bonjour kele la happy tally."
    assert "".join(e.text for e in events if isinstance(e, WordsCommitted)) == ended.transcript
    assert not [event for event in events if isinstance(event, ReplyStarted)]
    assert stand.dialogue is not None
    assert not stand.dialogue.messages


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([(" Stop", 0.8), (" it", 1.1)], {}),  # said badly, and meant
        (WORDS, {"unclear": 0.2}),
        (WORDS, {"unclear": 0.0}),
    ],
)
async def test_few_words_and_words_that_are_sure_enough_are_answered(
    stand: Stand, words: list[tuple[str, float]], options: dict[str, float]
) -> None:
    events = await unsure(stand, words, **options).run(SOUND)
    assert [event.replies for event in events if isinstance(event, TurnEnded)] == [True]
    assert [event for event in events if isinstance(event, ReplyStarted)]


async def test_what_hearing_it_as_a_whole_says_counts(stand: Stand) -> None:
    script = Script(WORDS, logprob=UNSURE, revision=(0, (" What", " time", " is it", " now?")))
    events = await replace(stand, script=script).run(SOUND)
    assert [event.reason for event in events if isinstance(event, TurnEnded)] != ["unclear"]
