"""A spoken turn while it is heard, and what all of them took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from textpro_stream.contracts import (
    AudioChunk,
    Ending,
    OpenTurn,
    TokenSpan,
    ToneReading,
    bare_words,
    has_words,
    mean_logprob,
    text_of,
)
from textpro_stream.ports import Recognizer
from textpro_stream.telemetry.marks import TurnMarks

NONSENSE = 5  # words of it at least


@dataclass(slots=True)
class SpokenTurn:
    """One person's say, as far as it was heard."""

    number: int
    recognizer: Recognizer
    marks: TurnMarks = field(default_factory=TurnMarks)
    spans: list[TokenSpan] = field(default_factory=list)  # committed so far
    tail: Sequence[TokenSpan] = ()  # what the preview holds beyond them
    ending: Ending | None = None  # what the preview tells of it
    revised: tuple[TokenSpan, ...] | None = None  # all its words, where they were heard otherwise
    tone: ToneReading | None = None  # of all its words, where it is over or may soon be
    held: list[AudioChunk] | None = None  # frames kept back while the turn may be over
    drafts: bool = False  # it may soon be over, so a reply is being drafted
    silent_since: int = 0  # samples; where the last voice before the pause ended
    shown: str = ""  # the last hypothesis that went out
    speech: int = 0  # samples; where speech began
    speech_end: int = 0  # samples; where the endpoint says that speech ended
    ended_at: int = 0  # samples; where the endpoint was decided
    decided: float = 0.0  # monotonic; when it was

    @property
    def transcript(self) -> str:
        """Its words: those committed, unless they were revised."""
        return text_of(self.revised or self.spans)

    def is_clear(self, least: float) -> bool:
        """Whether its words are sure enough to be taken at their word.

        A few unsure words are no nonsense but words that were said badly: they are always clear.

        Args:
            least: geometric mean of its tokens' probabilities.
        """
        few = len(bare_words(self.transcript)) < NONSENSE
        return few or math.exp(mean_logprob(self.revised or self.spans)) >= least

    @property
    def text(self) -> str:
        """All of its words, the preview's included."""
        return text_of(self.revised or (*self.spans, *self.tail))

    def as_open(self, *, over: bool) -> OpenTurn:
        """The turn as it is told to whoever replies."""
        if self.revised is not None:
            return OpenTurn(self.number, self.revised, (), over, self.ending, self.tone)
        return replace(self.heard, over=over, tone=self.tone)

    @property
    def heard(self) -> OpenTurn:
        """The turn as streaming heard it, were this its end."""
        return OpenTurn(self.number, tuple(self.spans), tuple(self.tail), True, self.ending)

    def pause(self) -> None:
        """Ask what its words are, were this its end."""
        preview = self.recognizer.preview()
        self.tail, self.ending = preview.spans, preview.ending

    def revise(self) -> None:
        """Hear it again as a whole, and take what that says where it says something else."""
        revision = self.recognizer.revise()
        self.revised = None if revision is None else revision.of(self.spans, self.tail)


@dataclass(slots=True)
class WorkTotals:
    """Counters of all turns so far, for `Finished`."""

    words: int = 0
    turns: int = 0  # that held words
    positions_final: int = 0
    positions_provisional: int = 0
    positions_heard: int = 0
    decoder_passes: int = 0
    tokens_committed: int = 0

    def add(self, turn: SpokenTurn) -> None:
        """A turn is over."""
        words = len(turn.transcript.split())
        self.words += words
        self.turns += has_words(turn.transcript)
        work = turn.recognizer.work
        self.positions_final += work.positions_final
        self.positions_provisional += work.positions_provisional
        self.positions_heard += work.positions_heard
        self.decoder_passes += work.decoder_passes
        self.tokens_committed += work.tokens_committed

    def figures(self) -> dict[str, float]:
        """The counters as ratios that must not grow with the length of the audio."""
        frames, tokens = max(1, self.positions_heard), max(1, self.tokens_committed)
        return {
            "frames_final_per_frame": self.positions_final / frames,
            "frames_provisional_per_frame": self.positions_provisional / frames,
            "decoder_steps_per_token": self.decoder_passes / tokens,
        }
