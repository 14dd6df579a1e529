"""What stands on the screen, in plain characters, at the widths people have."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from textpro_stream import events as ev
from textpro_stream.cli.report import PlainReport
from textpro_stream.cli.view import LiveReport, Screen, TurnPicture
from textpro_stream.contracts import ProsodyWindow, SpokenChunk, TokenSpan


def words(text: str) -> ev.WordsCommitted:
    return ev.WordsCommitted(1, 16000, (TokenSpan((1,), text, 0, 1600, -0.1, torch.zeros(1, 1)),))


def window(f0_hz: float | None, semitones: float | None) -> ev.ProsodyUpdated:
    embedding = np.zeros(1, np.float32)
    return ev.ProsodyUpdated(
        1,
        16000,
        ProsodyWindow(8000, 40000, 5, embedding, f0_hz, semitones, -23.4, 1.5, 3.2),
    )


MARKS = {
    "speech_end": -0.52,
    "vad_stop": -0.4,
    "endpoint_decision": 0.0,
    "last_commit": -0.33,
    "endpoint_wait": 0.52,
    "asr_final": 0.0,
    "first_token": -0.31,
    "first_clause": -0.2,
    "tts_first": 0.01,
    "first_audio": 0.012,
    "ttft_ready": -0.31,
    "server_perceived": 0.532,
}
TALK: list[ev.Event] = [
    ev.SpeechStarted(1, 8000, 6000),
    ev.HypothesisChanged(1, 9000, " What tim"),
    words(" What time"),
    ev.HypothesisChanged(1, 16000, " is"),
    window(182.0, 2.1),
    window(None, None),
    ev.SpeechStopped(1, 20000, 18000),
    ev.TurnEager(1, 21000),
    ev.TurnResumed(1, 22000),
    words(" is it?"),
    ev.TurnEnded(1, 30000, " What time is it?", "complete"),
    ev.ReplyStarted(1, 30000),
    ev.ReplyText(1, 30000, "It is\n\nnoon."),
    ev.ReplyAudio(1, 30000, SpokenChunk(np.zeros(220, np.float32), 22050, 0, 5)),
    ev.ReplyDucked(1, 30000, True),
    ev.Failed(1, 30000, "stage", "the voice is hoarse"),
    ev.ReplyEnded(1, 30000, "It is\n\nnoon.", "stop"),
    ev.TurnLatency(1, 30000, MARKS),
    ev.Finished(1, 32000, 1, 4, 0.25, {}, {}),
]


def drawn(picture: TurnPicture, width: int, *, whole: bool) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(picture.draw(whole=whole))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_words_commit_out_of_the_tail() -> None:
    screen = Screen()
    for event in TALK[:4]:
        screen.apply(event)
    picture = screen.turns[1]
    assert (picture.words, picture.tail) == (" What time", " is")
    assert "What time is" in drawn(picture, 80, whole=False)


def test_a_finished_turn_is_handed_over_once() -> None:
    screen = Screen()
    for event in TALK:
        screen.apply(event)
    assert not screen.turns
    assert [picture.number for picture in screen.done] == [1]


def test_a_turn_without_words_leaves_nothing() -> None:
    screen = Screen()
    for event in (ev.SpeechStarted(1, 0, 0), ev.TurnEnded(1, 9, "", "no_words"), TALK[-1]):
        screen.apply(event)
    assert not screen.turns
    assert not screen.done


@pytest.mark.parametrize("reason", ["echo", "unclear", "failed"])
def test_a_turn_that_nobody_answers_is_shown_and_over(reason: ev.TurnEndReason) -> None:
    screen = Screen()
    for event in (*TALK[:4], ev.TurnEnded(1, 9, " What time is", reason, replies=False)):
        screen.apply(event)
    assert not screen.turns
    assert "What time" in drawn(screen.done[0], 80, whole=True)


@pytest.mark.parametrize("width", [80, 120])
def test_the_whole_turn_fits_the_screen(width: int) -> None:
    screen = Screen()
    for event in TALK:
        screen.apply(event)
    text = drawn(screen.done[0], width, whole=True)
    assert max(map(len, text.splitlines())) <= width
    for part in ("What time is it?", "↑ 182 Hz  +2.1 st", "unvoiced", "-23.4 dB", "It is noon."):
        assert part in text
    for name in ("endpoint", "words", "first token", "clause", "voice", "held back"):
        assert name in text
    assert "532 ms from the end of speech to the first sound" in text
    assert "310 ms before the endpoint" in text


def test_the_live_report_prints_each_turn_and_leaves_the_terminal_alone() -> None:
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    report = LiveReport(console)
    report.begin("question.wav")
    for event in TALK:
        report.show(event)
    report.close()
    report.close()
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.count("What time is it?") == 1
    assert "1 turns, 4 words" in text


def test_plain_lines_say_the_same() -> None:
    out = io.StringIO()
    report = PlainReport(out)
    report.begin("question.wav")
    for event in TALK:
        report.show(event)
    report.close()
    text = out.getvalue()
    assert text.splitlines()[0] == "== question.wav"
    assert "words    What time\n" in text
    assert "What time is it?  [complete]" in text
    assert "endpoint 520 + words 0 + reply 0 + clause 0 + voice 10 + release 2 ms" in text
    assert "first token -310 ms against the endpoint" in text
