"""What a conversation was busy with, and when: busy seconds, and spans for a Chrome trace.

Stages name their work to an `Observer` and carry no stopwatch. Counting busy seconds is always
on (two clock reads a span); spans are kept only when a trace was asked for.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from textpro_stream.contracts import seconds
from textpro_stream.files import replacing
from textpro_stream.ports import Clock


class Unobserved:
    """The observer that costs nothing."""

    def span(self, name: str, /) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()


LANES = ("audio", "vad", "encoder", "decoder", "prefill", "decode", "speech", "turn")


@dataclass(frozen=True, slots=True)
class Stamp:
    """One entry of a trace: a span, or a moment when `duration_s` is None."""

    name: str
    lane: str
    began_s: float  # monotonic
    duration_s: float | None
    at: int  # samples; where the audio clock stood


class Trace:
    """An `Observer` for one conversation.

    Args:
        clock: read at each end of a span.
        record: keep the spans, not only their sums.
    """

    def __init__(self, clock: Clock, *, record: bool = False) -> None:
        self.busy: defaultdict[str, float] = defaultdict(float)  # seconds by kind of work
        self.position = 0  # samples; moved by the conversation
        self.stamps: list[Stamp] | None = [] if record else None
        self._clock = clock

    def span(self, name: str, /) -> AbstractContextManager[None]:
        """Enter while working on `name`."""
        return _Span(self, self._clock, name)

    def moment(self, name: str, lane: str = "turn") -> None:
        """Something happened that takes no time: an endpoint, a first token."""
        if self.stamps is not None:
            self.stamps.append(Stamp(name, lane, self._clock.now(), None, self.position))


class _Span(AbstractContextManager[None]):
    __slots__ = ("_at", "_began", "_clock", "_name", "_trace")

    def __init__(self, trace: Trace, clock: Clock, name: str) -> None:
        self._trace, self._clock, self._name = trace, clock, name

    def __enter__(self) -> None:
        self._at = self._trace.position
        self._began = self._clock.now()

    def __exit__(self, *_: object) -> None:
        duration = self._clock.now() - self._began
        self._trace.busy[self._name] += duration
        if self._trace.stamps is not None:
            stamp = Stamp(self._name, self._name, self._began, duration, self._at)
            self._trace.stamps.append(stamp)


def chrome_trace(conversations: Sequence[tuple[str, Trace]]) -> dict[str, object]:
    """Recorded traces in Chrome's trace format; opens in Perfetto and chrome://tracing.

    Args:
        conversations: source name and trace; each becomes a process, each lane a thread.
    """
    began = min((s.began_s for _, trace in conversations for s in trace.stamps or ()), default=0.0)
    entries: list[dict[str, object]] = []
    for process, (source, trace) in enumerate(conversations, 1):
        entries.append(_name("process_name", process, 0, source))
        stamps = trace.stamps or []
        lanes = {lane: i for i, lane in enumerate(LANES, 1)}
        for stamp in stamps:
            lanes.setdefault(stamp.lane, len(lanes) + 1)
        used = {stamp.lane for stamp in stamps}
        entries += [_name("thread_name", process, i, n) for n, i in lanes.items() if n in used]
        for stamp in stamps:
            entry: dict[str, object] = {
                "name": stamp.name,
                "pid": process,
                "tid": lanes[stamp.lane],
                "ts": round((stamp.began_s - began) * 1e6, 1),  # microseconds
                "args": {"audio_s": round(seconds(stamp.at), 4)},
            }
            if stamp.duration_s is None:
                entry |= {"ph": "i", "s": "p"}
            else:
                entry |= {"ph": "X", "dur": round(stamp.duration_s * 1e6, 1)}
            entries.append(entry)
    return {"traceEvents": entries, "displayTimeUnit": "ms"}


def write_chrome_trace(path: Path, conversations: Sequence[tuple[str, Trace]]) -> None:
    """Write the trace beside its place, then move it there: no half file is ever seen."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(chrome_trace(conversations)), encoding="utf-8")


def _name(kind: str, process: int, thread: int, name: str) -> dict[str, object]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}
