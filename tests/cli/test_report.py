"""A turn's tone in words for a terminal: what differs, what is guessed, and nothing else."""

from __future__ import annotations

import io

import pytest

from textpro_stream import events as ev
from textpro_stream.cli.report import PlainReport, describe_tone
from textpro_stream.contracts import ToneReading

ANGRY = {"anger": 0.5, "neutral": 0.3, "sadness": 0.2}
EVEN = {"anger": 0.35, "neutral": 0.35, "sadness": 0.3}


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (ToneReading(None, None, None, None, None, {}), "unsure"),
        (ToneReading(None, 0.5, -1.0, 1.1, 0.3, EVEN), "unsure"),
        (ToneReading(0.9, 3.2, 5.1, 1.5, 0.0, EVEN), "higher (+3 st), louder (+5 dB), faster"),
        (ToneReading(0.1, -2.6, -4.0, 0.5, None, EVEN), "lower (-3 st), softer (-4 dB), slower"),
        (ToneReading(0.9, None, None, None, None, EVEN), "agitated"),
        (ToneReading(0.1, None, None, None, 4.0, EVEN), "rising at the end, calm"),
        (ToneReading(None, None, None, None, None, ANGRY), "perhaps anger (a guess"),
    ],
)
def test_what_differs_is_said(reading: ToneReading, said: str) -> None:
    assert describe_tone(reading).startswith(said)


def test_plain_lines_tell_it_once_a_turn() -> None:
    out = io.StringIO()
    PlainReport(out).show(ev.TurnTone(1, 16_000, ToneReading(0.9, None, None, None, None, ANGRY)))
    assert out.getvalue() == (
        "   1.00 s  sounds   agitated, perhaps anger (a guess: about two in five are right)\n"
    )
