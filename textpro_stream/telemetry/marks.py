"""Where a turn's time went: marks, the figures derived from them, and their check.

Every mark is a monotonic moment; audio positions become moments through the time at which the
audio arrived. Definitions, one line each, are in docs/latency.md. Seconds throughout, against the
endpoint decision: negative is before it.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, get_args

from textpro_stream.contracts import SAMPLE_RATE, seconds

KEPT_S = 30  # of arrivals: longer than a turn's pauses, short against a drifting sound card
STALL_S = 1.0  # a source that was this late has paused; the fit begins anew


Mark = Literal[
    "speech_end",
    "vad_stop",
    "endpoint_decision",
    "asr_final",
    "last_commit",
    "llm_ready",
    "first_token",
    "first_clause",
    "tts_first",
    "first_audio",
]
MARKS: tuple[Mark, ...] = get_args(Mark)
DRAFTED: tuple[Mark, ...] = (  # what is undone when a draft is dropped
    "last_commit",
    "llm_ready",
    "first_token",
    "first_clause",
    "tts_first",
)


class Arrivals:
    """Audio position -> the moment at which that sample was there to be heard.

    Each chunk says "my end arrived now". Transport only ever delays, so the earliest claim of
    the last half minute is the best one.
    """

    def __init__(self) -> None:
        self._offsets: deque[tuple[int, float]] = deque()  # (audio second, least offset in it)

    def stamp(self, end: int, moment: float) -> None:
        """Audio up to `end` has arrived."""
        offset = moment - seconds(end)
        if self._offsets and offset > self.offset + STALL_S:
            self._offsets.clear()
        second = end // SAMPLE_RATE
        if self._offsets and self._offsets[-1][0] == second:
            self._offsets[-1] = (second, min(offset, self._offsets[-1][1]))
        else:
            self._offsets.append((second, offset))
        while self._offsets[0][0] < second - KEPT_S:
            self._offsets.popleft()

    def restart(self, end: int, moment: float) -> None:
        """Forget the past: audio that waits for us arrives when it is taken."""
        self._offsets.clear()
        self.stamp(end, moment)

    @property
    def offset(self) -> float:
        """Seconds between the audio clock and the monotonic clock."""
        return min(offset for _, offset in self._offsets)

    def moment(self, position: int) -> float:
        """When the sample at `position` arrived."""
        return self.offset + seconds(position)


class TurnMarks:
    """The moments of one turn. The first note of a mark stands; `again` moves it."""

    def __init__(self) -> None:
        self._moments: dict[Mark, float] = {}
        self.endpoint_wait = 0.0  # seconds; from the audio positions, see `decide`
        self.wasted_tokens = 0
        self.wasted_speech_s = 0.0
        self.prompt_tokens: int | None = None  # in front of the reply, as the LLM tells
        self.cached_tokens: int | None = None  # of those, there before the reply was asked for

    def note(self, name: Mark, moment: float) -> None:
        """It happened, if it has not happened before."""
        self._moments.setdefault(name, moment)

    def again(self, name: Mark, moment: float) -> None:
        """It happened; the last time counts."""
        self._moments[name] = moment

    def forget(self, *names: Mark) -> None:
        """It was undone: the speaker went on."""
        for name in names:
            self._moments.pop(name, None)

    def decide(self, moment: float, at: int, speech: int, arrivals: Arrivals) -> None:
        """The endpoint: audio up to `at` was needed to know that speech had ended at `speech`."""
        self.again("endpoint_decision", moment)
        self.again("speech_end", arrivals.moment(speech))
        self.endpoint_wait = seconds(at - speech) + max(0.0, moment - arrivals.moment(at))

    def report(self) -> dict[str, float]:
        """All marks and derived figures that exist for this turn."""
        moments = self._moments
        decided = moments["endpoint_decision"]
        marks: dict[str, float] = {
            name: moments[name] - decided for name in MARKS if name in moments
        }
        marks["endpoint_wait"] = self.endpoint_wait
        for name, (later, earlier) in DERIVED.items():
            if later in moments and earlier in moments:
                marks[name] = moments[later] - moments[earlier]
        marks["spec_waste"] = float(self.wasted_tokens)
        marks["spec_waste_speech_s"] = self.wasted_speech_s
        if self.prompt_tokens is not None:
            marks["prompt_tokens"] = float(self.prompt_tokens)
        if self.cached_tokens is not None:
            marks["cached_tokens"] = float(self.cached_tokens)
        return marks


DERIVED: dict[str, tuple[Mark, Mark]] = {  # name: (later mark, earlier mark)
    "asr_lag": ("last_commit", "speech_end"),
    "ttft_commit": ("first_token", "last_commit"),
    "ttft_ready": ("first_token", "endpoint_decision"),
    "tts_ttfb": ("tts_first", "first_clause"),
    "server_perceived": ("first_audio", "speech_end"),
}
