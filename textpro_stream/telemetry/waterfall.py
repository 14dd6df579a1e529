"""A turn's marks as a picture: stages that overlap, or a chain of what was waited for."""

from __future__ import annotations

from textpro_stream.telemetry.marks import Mark

PARTS: tuple[
    tuple[str, Mark], ...
] = (  # what the listener waits for, one after another: name and the mark that ends it
    ("words", "asr_final"),
    ("reply", "first_token"),
    ("clause", "first_clause"),
    ("voice", "tts_first"),
    ("release", "first_audio"),
)

STAGES: tuple[
    tuple[str, Mark, Mark], ...
] = (  # what was being done when: name, and the marks where it begins and ends
    ("endpoint", "speech_end", "endpoint_decision"),
    ("words", "vad_stop", "last_commit"),
    ("first token", "last_commit", "first_token"),
    ("clause", "first_token", "first_clause"),
    ("voice", "first_clause", "tts_first"),
    ("held back", "tts_first", "first_audio"),
)


def stages(marks: dict[str, float]) -> list[tuple[str, float, float]]:
    """The turn as overlapping stages, each where it happened: (name, start, end).

    What was done while the endpoint was still waited for cost nobody any time.
    """
    return [
        (name, marks[first], max(marks[first], marks[last]))
        for name, first, last in STAGES
        if first in marks and last in marks
    ]


def parts(marks: dict[str, float]) -> list[tuple[str, float, float]]:
    """The turn as a chain without gaps: (name, start, end), from the end of speech on.

    A part that was done before its turn came has no length. The lengths add up to
    `server_perceived`; where they do not, the clocks are wrong.
    """
    chain = [("endpoint", -marks["endpoint_wait"], 0.0)]
    for name, mark in PARTS:
        if mark in marks:
            start = chain[-1][2]
            chain.append((name, start, max(start, marks[mark])))
    return chain


def discrepancy(marks: dict[str, float]) -> float:
    """Seconds by which the parts miss the whole; 0 where nothing was spoken."""
    if "server_perceived" not in marks:
        return 0.0
    return sum(end - start for _, start, end in parts(marks)) - marks["server_perceived"]
