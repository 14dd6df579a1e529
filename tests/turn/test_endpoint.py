"""The endpoint machine on a scripted detector: what it says, when, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from textpro_stream.config import TurnOptions
from textpro_stream.contracts import FRAME, AudioChunk, ListenedFrame, TurnSignal, samples_of_ms
from textpro_stream.turn import Endpointer, p_end_of_turn

OPTIONS = TurnOptions(
    threshold=0.5, start_ms=100, eager_ms=200, silence_ms=500, silence_long_ms=1000
)


class ScriptedVad:
    """Says the probabilities it was given, one per window; then silence."""

    def __init__(self, probabilities: Iterable[float], frame: int = FRAME) -> None:
        self.frame = frame
        self._script = iter(probabilities)

    def probability(self, samples: NDArray[np.float32], /) -> float:
        assert samples.shape == (self.frame,)
        return next(self._script, 0.0)


def script(*parts: tuple[float, int]) -> list[float]:
    """(probability, ms) pairs as 20 ms decisions."""
    return [p for p, ms in parts for _ in range(ms // 20)]


def run(
    endpointer: Endpointer,
    n_frames: int,
    on_eager: Callable[[Endpointer], None] = lambda _: None,
    start: int = 0,
) -> list[TurnSignal]:
    """Feed frames of silence (the detector is scripted), and answer each pause."""
    signals: list[TurnSignal] = []
    for i in range(n_frames):
        chunk = AudioChunk(np.zeros(FRAME, np.float32), start + i * FRAME)
        new = endpointer.push(ListenedFrame(chunk))
        signals += new
        if any(signal.kind == "eager" for signal in new):
            on_eager(endpointer)
    return signals


def ms(value: float) -> int:
    return samples_of_ms(value)


def kinds(signals: Iterable[TurnSignal]) -> list[str]:
    return [signal.kind for signal in signals]


def test_a_turn_that_nobody_judges_ends_at_the_long_silence() -> None:
    probabilities = script((0, 200), (0.9, 600), (0, 2000))
    signals = run(Endpointer(ScriptedVad(probabilities), OPTIONS), len(probabilities))
    assert signals == [
        TurnSignal("speech_started", ms(300), ms(200)),
        TurnSignal("speech_stopped", ms(1000), ms(800)),
        TurnSignal("eager", ms(1000), ms(800)),
        TurnSignal("endpoint", ms(1800), ms(800), "silence"),
    ]


@pytest.mark.parametrize(
    ("p_end", "silence_ms", "reason"),
    [
        (p_end_of_turn("What time is it?"), 500, "complete"),
        (0.6, 500, "complete"),
        (0.25, 760, "complete"),  # half the promise: half the way (20 ms grid)
        (0.0, 1000, "silence"),
    ],
)
def test_complete_words_end_a_turn_early(p_end: float, silence_ms: int, reason: str) -> None:
    probabilities = script((0.9, 600), (0, 2000))
    endpointer = Endpointer(ScriptedVad(probabilities), OPTIONS)
    end = run(endpointer, len(probabilities), lambda e: e.evidence(p_end))[-1]
    assert end == TurnSignal("endpoint", ms(600 + silence_ms), ms(600), reason)


def test_evidence_of_an_earlier_pause_is_forgotten() -> None:
    probabilities = script((0.9, 400), (0, 300), (0.9, 300), (0, 2000))
    endpointer = Endpointer(ScriptedVad(probabilities), OPTIONS)
    answers = map(p_end_of_turn, ["That is all.", "That is all. And"])
    signals = run(endpointer, len(probabilities), lambda e: e.evidence(next(answers)))
    assert kinds(signals) == [
        *("speech_started", "speech_stopped", "eager", "resumed"),
        *("speech_stopped", "eager", "endpoint"),
    ]
    assert signals[3].speech == ms(700)
    assert signals[-1].at - signals[-1].speech > ms(800)


def test_evidence_between_pauses_is_ignored() -> None:
    probabilities = script((0.9, 400), (0, 2000))
    endpointer = Endpointer(ScriptedVad(probabilities), OPTIONS)
    run(endpointer, 10)
    endpointer.evidence(1.0)
    signals = run(endpointer, len(probabilities) - 10, start=10 * FRAME)
    assert signals[-1].reason == "silence"


def test_a_click_neither_opens_a_turn_nor_brings_it_back() -> None:
    click = script((1.0, 60), (0, 300))
    assert run(Endpointer(ScriptedVad(click * 5), OPTIONS), len(click) * 5) == []
    probabilities = [*script((0.9, 400), (0, 300)), *click, *script((0, 2000))]
    signals = run(Endpointer(ScriptedVad(probabilities), OPTIONS), len(probabilities))
    assert "resumed" not in kinds(signals)
    assert signals[-1].at == ms(400 + 1000)  # nor does it make the silence shorter


def test_a_voice_that_comes_back_at_the_last_moment_is_waited_for() -> None:
    probabilities = script((0.9, 400), (0, 960), (0.9, 300), (0, 2000))
    signals = run(Endpointer(ScriptedVad(probabilities), OPTIONS), len(probabilities))
    assert kinds(signals).index("resumed") < kinds(signals).index("endpoint")
    assert signals[-1].speech == ms(1660)


def test_a_weak_consonant_does_not_break_a_word() -> None:
    probabilities = script((0.9, 60), (0.4, 60), (0.9, 60))
    assert kinds(run(Endpointer(ScriptedVad(probabilities), OPTIONS), 9)) == ["speech_started"]


def test_a_detector_on_another_grid_moves_in_frames_all_the_same() -> None:
    vad = ScriptedVad([0.0] * 5 + [0.9] * 20, frame=512)
    endpointer = Endpointer(vad, OPTIONS)
    signals = run(endpointer, 150)
    assert kinds(signals) == ["speech_started", "speech_stopped", "eager", "endpoint"]
    assert [signal.at % FRAME for signal in signals] == [0] * 4
    assert signals[0].speech == 5 * 512
    assert signals[-1].speech == 25 * 512


def test_the_end_of_the_audio_ends_an_open_turn_only() -> None:
    endpointer = Endpointer(ScriptedVad([]), OPTIONS)
    run(endpointer, 10)
    assert endpointer.finish() == []
    endpointer = Endpointer(ScriptedVad([0.9] * 10), OPTIONS)
    run(endpointer, 10)
    assert endpointer.speaking
    signals = endpointer.finish()
    assert kinds(signals) == ["speech_stopped", "endpoint"]
    assert signals[-1].reason == "end_of_audio"
    assert not endpointer.speaking


def test_a_dismissed_turn_leaves_no_trace() -> None:
    probabilities = script((0.9, 400), (0, 3000), (0.9, 400), (0, 3000))
    endpointer = Endpointer(ScriptedVad(probabilities), OPTIONS)
    signals = run(endpointer, len(probabilities), lambda e: e.dismiss())
    assert kinds(signals) == ["speech_started", "speech_stopped", "eager"] * 2


def test_a_key_opens_and_ends_a_turn_and_pauses_do_not() -> None:
    options = replace(OPTIONS, push_to_talk=True)
    probabilities = script((0.9, 400), (0, 2000), (0.9, 400), (0, 3000))
    endpointer = Endpointer(ScriptedVad(probabilities), options)
    assert run(endpointer, 5) == []
    assert endpointer.release(ms(100)) == []
    assert endpointer.press(ms(100)) == (TurnSignal("speech_started", ms(100), ms(100)),)
    assert endpointer.press(ms(100)) == ()
    signals = run(endpointer, 200, lambda e: e.evidence(1.0), start=5 * FRAME)
    assert kinds(signals) == ["speech_stopped", "eager", "resumed", "speech_stopped", "eager"]
    assert endpointer.release(ms(4100)) == [TurnSignal("endpoint", ms(4100), ms(2800), "pushed")]
    assert endpointer.finish() == []


def test_a_key_without_a_voice_is_still_a_turn() -> None:
    endpointer = Endpointer(ScriptedVad([]), replace(OPTIONS, push_to_talk=True))
    endpointer.press(0)
    assert run(endpointer, 100) == []
    assert kinds(endpointer.release(ms(2000))) == ["speech_stopped", "endpoint"]


# What may follow what. "" stands for no open turn.
FOLLOWS = {
    "": {"speech_started"},
    "speech_started": {"speech_stopped"},
    "speech_stopped": {"eager", "endpoint"},  # the latter only by finish or key
    "eager": {"resumed", "endpoint"},
    "resumed": {"speech_stopped"},
    "endpoint": {"speech_started"},
}

PAUSES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.3, 0.4, 0.6, 1.0]), st.integers(1, 40)), max_size=30
)


@given(
    parts=PAUSES,
    frame=st.sampled_from([160, 320, 512, 1600]),
    p_end=st.none() | st.floats(0, 1),
    eager_ms=st.integers(20, 400),
    silence_ms=st.integers(20, 800),
    silence_long_ms=st.integers(20, 1500),
)
@settings(max_examples=150, deadline=None)
def test_laws(
    parts: list[tuple[float, int]],
    frame: int,
    p_end: float | None,
    eager_ms: int,
    silence_ms: int,
    silence_long_ms: int,
) -> None:
    options = replace(
        OPTIONS, eager_ms=eager_ms, silence_ms=silence_ms, silence_long_ms=silence_long_ms
    )
    probabilities = [p for p, n in parts for _ in range(n)]
    vad = ScriptedVad(probabilities, frame)
    endpointer = Endpointer(vad, options)
    n_frames = len(probabilities) * frame // FRAME

    def judge(endpointer: Endpointer) -> None:
        if p_end is not None:  # else nobody does
            endpointer.evidence(p_end)

    signals = run(endpointer, n_frames, judge)
    ends_by_itself = len(signals)
    signals += endpointer.finish()

    last = ""
    for i, signal in enumerate(signals):
        assert signal.kind in FOLLOWS[last], kinds(signals)
        if signal.kind == "endpoint" and i < ends_by_itself:
            assert last == "eager"
            assert signal.at - signal.speech >= ms(min(silence_ms, silence_long_ms))
        assert signal.at % FRAME == 0
        assert 0 <= signal.speech <= signal.at
        last = signal.kind
    assert last in ("", "endpoint")  # every turn that starts ends
    assert [s.at for s in signals] == sorted(s.at for s in signals)
    assert endpointer.finish() == []


def test_an_hour_of_voice_keeps_no_audio() -> None:
    endpointer = Endpointer(ScriptedVad([0.9] * 10_000, frame=512), OPTIONS)
    run(endpointer, 5_000)
    held = [value for value in vars(endpointer._track).values() if isinstance(value, np.ndarray)]
    assert sum(array.size for array in held) < 512
