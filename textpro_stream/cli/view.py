"""The live view in a terminal: the turn at hand redraws, finished turns scroll away above it.

Words stand out as they commit and their open tail is dim; under them how they were said, what the
endpoint makes of it, the reply as it streams, and where the turn's time went. Drawing happens in
rich's own thread and only reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from textpro_stream import events as ev
from textpro_stream.cli.report import arrow, describe_tone, totals
from textpro_stream.contracts import ProsodyWindow, seconds
from textpro_stream.ports import Talk
from textpro_stream.telemetry.waterfall import stages

METER = 16  # characters of the voice meter
BARS = 32  # characters of the waterfall
WINDOWS = 4  # prosody windows shown while a turn runs: the page must not jump about
ENDINGS = {
    "complete": "the words were complete",
    "silence": "long silence",
    "end_of_audio": "the audio ended",
    "typed": "you wrote it",
    "pushed": "key released",
    "no_words": "no words in it",
    "unclear": "too unclear to be answered; say it again",
}
UNTAKEN = ("no_words", "echo", "unclear", "failed")  # nothing more is said of such a turn


@dataclass(slots=True)
class TurnPicture:
    """What is known of one turn, ready to draw."""

    number: int
    words: str = ""
    tail: str = ""
    state: str = "listening"
    windows: list[ProsodyWindow] = field(default_factory=list)
    sounds: str = ""  # how the whole was said
    reply: str = ""
    ending: str = ""  # of the reply
    marks: dict[str, float] = field(default_factory=dict)

    def draw(self, *, whole: bool) -> RenderableType:
        """The turn as rows.

        Args:
            whole: it is over: all windows, and the waterfall.
        """
        rows = Table.grid(padding=(0, 1))
        rows.add_column(style="dim", width=6, no_wrap=True)
        rows.add_column(ratio=1)
        said = Text(self.words.lstrip(), style="bold")
        if self.tail:
            said.append(
                self.tail if self.words else self.tail.lstrip(), style="dim italic not bold"
            )
        rows.add_row(f"you {self.number}", said)
        for i, window in enumerate(self.windows if whole else self.windows[-WINDOWS:]):
            rows.add_row("tone" if i == 0 else "", _tone(window))
        if self.sounds:
            rows.add_row("sounds", Text(self.sounds, style="dim"))
        rows.add_row("turn", Text(self.state, style="yellow"))
        if self.reply or self.ending:
            reply = Text(" ".join(self.reply.split()), style="green")
            if self.ending not in ("", "stop"):
                reply.append(f"  [{self.ending}]", style="dim")
            rows.add_row("reply", reply)
        if whole and self.marks:
            rows.add_row("time", _waterfall(self.marks))
        return rows


class Screen:
    """All open turns, as events leave them. Knows nothing of terminals."""

    def __init__(self) -> None:
        self.turns: dict[int, TurnPicture] = {}
        self.done: list[TurnPicture] = []  # over, and not yet printed
        self.position = 0

    def apply(self, event: ev.Event) -> None:
        """Take one event in."""
        self.position = event.at
        turn = self.turns.get(event.turn) or TurnPicture(event.turn)
        match event:
            case ev.SpeechStarted():
                self.turns[event.turn] = turn
            case ev.SpeechStopped():
                turn.state = "pause"
            case ev.HypothesisChanged(text=text):
                turn.tail = text
            case ev.WordsCommitted(text=text):
                turn.words += text
                turn.tail = turn.tail.removeprefix(text)
            case ev.TranscriptRevised(text=text):
                turn.words = text
            case ev.ProsodyUpdated(window=window):
                turn.windows.append(window)
            case ev.TurnTone(tone=tone):
                turn.sounds = describe_tone(tone)
            case ev.TurnEager():
                turn.state = "pause: drafting the reply, in case you have finished"
            case ev.TurnResumed():
                turn.state = "listening: you went on, the draft is dropped"
            case ev.TurnEnded(reason=reason):
                turn.tail, turn.state = "", f"over: {ENDINGS.get(reason, reason)}"
                if reason in UNTAKEN:
                    self.turns.pop(event.turn, None)
                    self.done += [turn] * (reason != "no_words")
            case ev.ReplyText(text=text):
                turn.reply += text
            case ev.ReplyEnded(text=text, reason=reason):
                turn.reply, turn.ending = text, reason
            case ev.TurnLatency(marks=marks):
                turn.marks = marks
                self.turns.pop(event.turn, None)
                self.done.append(turn)
            case ev.Finished():
                self.done += self.turns.values()
                self.turns.clear()
            case (
                ev.ReplyStarted()
                | ev.ReplyAudio()
                | ev.ReplyDucked()
                | ev.ReplyGiven()
                | ev.ToolCalled()
                | ev.Failed()
            ):
                pass
            case _:
                assert_never(event)


class LiveReport:
    """A `Report` that draws on the terminal."""

    def __init__(self, console: Console | None = None, *, hint: str = "") -> None:
        self._console = console or Console(highlight=False)
        self._screen = Screen()
        self._talk: Talk | None = None
        self._source, self._hint = "", hint
        self._live: Live | None = None

    def begin(self, source: str, talk: Talk | None = None) -> None:
        """Draw from here on."""
        self._source, self._talk, self._screen = source, talk, Screen()
        self._console.rule(f"[bold]{source}", align="left", style="dim")
        if self._live is None and talk is not None:
            self._live = Live(
                console=self._console,
                get_renderable=self._draw,
                refresh_per_second=12,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=True,  # a warning must not tear the picture
            )
            self._live.start()

    def show(self, event: ev.Event) -> None:
        """One event; a finished turn is printed for good."""
        self._screen.apply(event)
        while self._screen.done:
            self._console.print(self._screen.done.pop(0).draw(whole=True))
            self._console.print()
        if isinstance(event, ev.Finished):
            self._console.print(f"[dim]{totals(event)}")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self) -> RenderableType:
        turns = [turn.draw(whole=False) for turn in list(self._screen.turns.values())]
        return Group(*turns, self._status())

    def _status(self) -> RenderableType:
        voice = self._talk.voice if self._talk else 0.0
        position = self._talk.position if self._talk else self._screen.position
        filled = round(voice * METER)
        style = "green" if voice >= 0.5 else "dim"
        return Text.assemble(
            ("voice  ", "dim"),
            ("█" * filled, style),
            ("░" * (METER - filled), "dim"),
            f" {voice:4.2f}",
            (f"   {seconds(position):6.1f} s", "dim"),
            (f"   {self._hint}" if self._hint else "", "dim"),
        )


def _tone(window: ProsodyWindow) -> RenderableType:
    """A window in fixed columns, so that the eye can run down them."""
    if window.f0_hz is None:
        pitch = Text("unvoiced".ljust(18), style="dim")
    else:
        tones = window.f0_semitones or 0.0
        style = "cyan" if tones > 1 else "blue" if tones < -1 else ""
        pitch = Text(f"{arrow(tones)} {window.f0_hz:3.0f} Hz {tones:+5.1f} st  ", style=style)
    loud = "magenta" if window.energy_z > 1 else ""
    return Text.assemble(
        (f"{seconds(window.start):5.1f}-{seconds(window.end):<5.1f} s  ", "dim"),
        pitch,
        (f"{window.energy_dbfs:6.1f} dB  ", loud),
        f"{window.rate_tps:4.1f} tokens/s",
    )


def _waterfall(marks: dict[str, float]) -> RenderableType:
    """Who worked when, from the end of speech to the first sound: bars that overlap are free."""
    chain = stages(marks)
    begin = marks["speech_end"]
    end = max([begin + 1e-6, *(stop for _, _, stop in chain)])
    scale = BARS / (end - begin)
    rows = []
    for name, start, stop in chain:
        left = min(BARS - 1, max(0, round((start - begin) * scale)))
        length = max(1, round((stop - begin) * scale) - left)
        bar = "█" * length if (stop - start) * scale >= 0.5 else "▏"
        rows.append(
            Text.assemble(
                f"{name:<12}{' ' * left}",
                (bar, "yellow" if name == "endpoint" else "green"),
                " " * (BARS - left - len(bar)),
                f"{1000 * (stop - start):6.0f} ms",
            )
        )
    last = "sound" if "first_audio" in marks else "word" if "first_token" in marks else "decision"
    total = f"{1000 * (max(0.0, _answered(marks)) - begin):.0f} ms"
    rows.append(Text(f"{total} from the end of speech to the first {last}", style="bold"))
    if "ttft_ready" in marks:
        ready = 1000 * marks["ttft_ready"]
        when = "before" if ready <= 0 else "after"
        rows.append(Text(f"first reply token {abs(ready):.0f} ms {when} the endpoint", style="dim"))
    return Group(*rows)


def _answered(marks: dict[str, float]) -> float:
    """When something of the reply could first be noticed."""
    return marks.get("first_audio", marks.get("first_token", 0.0))
