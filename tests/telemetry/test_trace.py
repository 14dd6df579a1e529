"""Busy seconds always, spans when asked for, a file that Perfetto opens."""

import json
import os
from pathlib import Path

import pytest

from textpro_stream.clock import VirtualClock
from textpro_stream.telemetry.trace import Trace, chrome_trace, write_chrome_trace


async def recorded(record: bool = True) -> Trace:
    clock = VirtualClock(100.0)
    trace = Trace(clock, record=record)
    for name, moment in (("encoder", 100.25), ("decoder", 100.5), ("encoder", 101.0)):
        trace.position += 16000
        with trace.span(name):
            await clock.sleep_until(moment)
    trace.moment("endpoint")
    return trace


async def test_busy_seconds_add_up_by_kind() -> None:
    trace = await recorded(record=False)
    assert trace.busy == {"encoder": 0.75, "decoder": 0.25}
    assert trace.stamps is None


async def test_spans_carry_both_clocks() -> None:
    entries = chrome_trace([("a.wav", await recorded())])["traceEvents"]
    assert isinstance(entries, list)
    spans = [e for e in entries if e["ph"] == "X"]
    assert [(e["name"], e["ts"], e["dur"], e["args"]["audio_s"]) for e in spans] == [
        ("encoder", 0.0, 250_000.0, 1.0),
        ("decoder", 250_000.0, 250_000.0, 2.0),
        ("encoder", 500_000.0, 500_000.0, 3.0),
    ]
    assert spans[0]["tid"] == spans[2]["tid"] != spans[1]["tid"]
    names = {e["args"]["name"] for e in entries if e["ph"] == "M"}
    assert names == {"a.wav", "encoder", "decoder", "turn"}
    assert [e["name"] for e in entries if e["ph"] == "i"] == ["endpoint"]


async def test_a_span_that_fails_is_counted_too() -> None:
    clock = VirtualClock()
    trace = Trace(clock)
    try:
        with trace.span("decode"):
            await clock.sleep_until(2.0)
            raise ValueError
    except ValueError:
        assert trace.busy == {"decode": 2.0}


async def test_the_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    write_chrome_trace(path, [("a", await recorded()), ("b", await recorded())])
    assert {e["pid"] for e in json.loads(path.read_text())["traceEvents"]} == {1, 2}
    trace = await recorded()
    trace.stamps = [object()]  # type: ignore[list-item]  # to fail while writing
    with pytest.raises(AttributeError):
        write_chrome_trace(tmp_path / "other.json", [("a", trace)])
    assert os.listdir(tmp_path) == ["trace.json"]
