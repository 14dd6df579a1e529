"""Whatever is said and however it is cut: events keep their order, and words their sums."""

import asyncio
import re
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import Script, ScriptedDialogue, chunks, sound

from textpro_stream.events import (
    Event,
    Finished,
    ReplyEnded,
    SpeechStarted,
    TurnEnded,
    TurnTone,
    WordsCommitted,
)

LETTERS = {
    "SpeechStarted": "(",
    "SpeechStopped": "s",
    "TurnEager": "e",
    "TurnResumed": "r",
    "TurnTone": "o",
    "TurnEnded": ")",
    "ReplyStarted": "<",
    "ReplyText": "t",
    "ReplyEnded": ">",
    "TurnLatency": "l",
    "Finished": ".",
}
# A turn: pauses, some of which drafted a reply, some of which were none; how it sounds, if it holds
# words; then perhaps an answer.
GRAMMAR = re.compile(r"(\((s|se|r|ser)*o?\)(<t*>l)?)*\.")


def spelt(events: list[Event]) -> str:
    return "".join(LETTERS.get(type(event).__name__, "") for event in events)


@st.composite
def talks(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[str, float]]]:
    parts: list[tuple[str, float]] = []
    words: list[tuple[str, float]] = []
    at = 0.0
    for i in range(draw(st.integers(1, 6))):
        silence = draw(st.sampled_from([0.1, 0.25, 0.4, 0.7, 1.6]))
        voice = draw(st.sampled_from([0.04, 0.1, 0.3, 0.9]))
        parts += [("silence", silence), ("voice", voice)]
        at += silence
        if draw(st.booleans()) and voice > 0.2:
            mark = draw(st.sampled_from([".", "", ",", "?"]))
            words.append((f" w{i}{mark}", at + voice * 0.8))
        at += voice
    return sound(*parts, ("silence", draw(st.sampled_from([0.0, 0.3, 2.0])))), words


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(talk=talks(), cuts=st.lists(st.integers(1, 100_000), max_size=6))
def test_events_keep_their_order(stand, talk, cuts: list[int]) -> None:
    samples, words = talk

    async def run() -> list[Event]:
        fresh = replace(stand, script=Script(words), dialogue=ScriptedDialogue(), voice=None)
        return await fresh.run(chunks(samples, cuts))

    events = asyncio.run(run())
    assert GRAMMAR.fullmatch(spelt(events)), spelt(events)
    assert [e.at for e in events] == sorted(e.at for e in events)
    ended = [e for e in events if isinstance(e, TurnEnded)]
    assert [e.turn for e in ended] == list(range(1, len(ended) + 1))
    assert len(ended) == len([e for e in events if isinstance(e, SpeechStarted)])
    for turn in ended:
        said = [e.text for e in events if isinstance(e, WordsCommitted) and e.turn == turn.turn]
        assert "".join(said) == turn.transcript
        tones = [e for e in events if isinstance(e, TurnTone) and e.turn == turn.turn]
        assert len(tones) == bool(said)
        replies = [e for e in events if isinstance(e, ReplyEnded) and e.turn == turn.turn]
        assert len(replies) == (turn.reason != "no_words")
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.at == len(samples)
