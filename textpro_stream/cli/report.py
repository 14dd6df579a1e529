"""Events on their way to a person or a program: JSON lines, plain lines, or the live view."""

from __future__ import annotations

import time
from typing import TextIO, assert_never

from textpro_stream import events as ev
from textpro_stream.contracts import UNSURE, ProsodyWindow, ToneReading, seconds
from textpro_stream.ports import Talk
from textpro_stream.telemetry.waterfall import parts
from textpro_stream.wire import to_line


class JsonReport:
    """One JSON object a line, as `wire` defines it."""

    def __init__(self, out: TextIO, *, vectors: bool = False) -> None:
        self._out, self._vectors, self._source = out, vectors, ""
        self._began = time.monotonic()

    def begin(self, source: str, talk: Talk | None = None) -> None:
        """Name the source in every line from here on."""
        self._source = source

    def show(self, event: ev.Event) -> None:
        """Write one line, now."""
        wall_s = time.monotonic() - self._began
        line = to_line(event, source=self._source, wall_s=wall_s, vectors=self._vectors)
        print(line, file=self._out, flush=True)

    def close(self) -> None:
        """Nothing is left to write."""


class PlainReport:
    """A line for whatever is worth one, after the second of audio at which it was known."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def begin(self, source: str, talk: Talk | None = None) -> None:
        """Head the source's lines with its name."""
        print(f"== {source}", file=self._out, flush=True)

    def show(self, event: ev.Event) -> None:
        """Write a line, or none."""
        text = _line(event)
        if text is not None:
            print(f"{seconds(event.at):7.2f} s  {text}", file=self._out, flush=True)

    def close(self) -> None:
        """Nothing is left to write."""


def _line(event: ev.Event) -> str | None:
    match event:
        case ev.SpeechStarted():
            return f"speech   turn {event.turn}"
        case ev.WordsCommitted():
            return f"words   {event.text}"
        case ev.TranscriptRevised(text=text):
            return f"revised {text}"
        case ev.ProsodyUpdated(window=window):
            return f"tone     {describe(window)}"
        case ev.TurnTone(tone=tone):
            return f"sounds   {describe_tone(tone)}"
        case ev.TurnEnded(transcript=transcript, reason=reason):
            return f"turn     {transcript.strip() or '(no words)'}  [{reason}]"
        case ev.ReplyEnded(text=text, reason=reason):
            return f"reply    {' '.join(text.split())}  [{reason}]"
        case ev.TurnLatency(marks=marks):
            return f"latency  {summarise(marks)}"
        case ev.Failed(message=message):
            return f"error    {message}"
        case ev.Finished():
            return f"done     {totals(event)}"
        case ev.ToolCalled(call=call):
            return f"call     {call.name} {call.arguments}"
        case (
            ev.SpeechStopped()
            | ev.HypothesisChanged()
            | ev.TurnEager()
            | ev.TurnResumed()
            | ev.ReplyStarted()
            | ev.ReplyText()
            | ev.ReplyAudio()
            | ev.ReplyDucked()
            | ev.ReplyGiven()
        ):
            return None
        case _:
            assert_never(event)


def totals(event: ev.Finished) -> str:
    """A whole source in one line."""
    return (
        f"{seconds(event.at):.1f} s of audio, {event.turns} turns,"
        f" {event.words} words, {event.cpu_s:.1f} s of CPU"
    )


def describe(window: ProsodyWindow) -> str:
    """A prosody window in a few words, each with its figure."""
    pitch = "unvoiced"
    if window.f0_hz is not None:
        tones = window.f0_semitones or 0.0
        pitch = f"{arrow(tones)} {window.f0_hz:3.0f} Hz {tones:+5.1f} st"
    loudness = f"{window.energy_dbfs:5.1f} dB"
    span = f"{seconds(window.start):.1f}-{seconds(window.end):.1f} s"
    return f"{span:>11}  {pitch:<17}  {loudness}  {window.rate_tps:3.1f} tokens/s"


def describe_tone(tone: ToneReading) -> str:
    """A turn's tone in a few words: what differs from the speaker's usual, then what is guessed."""
    compared = (
        (tone.pitch, 2.0, "higher", "lower", "st"),
        (tone.loudness, 3.0, "louder", "softer", "dB"),
    )
    said = [
        f"{above if value > 0 else below} ({value:+.0f} {unit})"
        for value, least, above, below, unit in compared
        if value is not None and abs(value) >= least
    ]
    if tone.pace is not None and not 0.8 <= tone.pace <= 1.25:
        said.append(f"{'faster' if tone.pace > 1 else 'slower'} (x {tone.pace:.1f})")
    if tone.rising is not None and tone.rising >= 3.0:
        said.append("rising at the end")
    if tone.arousal is not None:
        said.append("agitated" if tone.arousal > 0.5 else "calm")
    if tone.guess != UNSURE:
        said.append(f"perhaps {tone.guess} (a guess: about two in five are right)")
    return ", ".join(said) or UNSURE


def arrow(semitones: float) -> str:
    """Above, at or below the speaker's usual pitch."""
    if semitones > 1.0:
        return "↑"
    return "↓" if semitones < -1.0 else "→"


def summarise(marks: dict[str, float]) -> str:
    """The turn's latency in one line."""
    chain = [f"{name} {1000 * (end - start):.0f}" for name, start, end in parts(marks)]
    text = " + ".join(chain) + " ms"
    if "ttft_ready" in marks:
        text += f"; first token {1000 * marks['ttft_ready']:+.0f} ms against the endpoint"
    return text
