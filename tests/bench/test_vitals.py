from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from random import Random

from textpro_stream.bench.vitals import Monitor, Vitals, complaints, slope, trends

BEFORE = Vitals(0.0, 500.0, 40.0, 20, 10, 1, 8, 0)


def hour(every_s: float = 5.0, **per_min: float) -> list[Vitals]:
    """Samples of a busy hour, noisy, where some quantities grow."""
    random, samples = Random(1), []
    for n in range(int(3600 / every_s)):
        at_s = n * every_s
        busy = random.randint(0, 4)
        values = {
            "rss_mib": 600 + random.uniform(-10, 10) + (60 if n < 100 else 0),
            "fds": 20 + busy,
            "tasks": 8 + 7 * busy,
            "sessions": busy,
        }
        for name, rate in per_min.items():
            values[name] += rate * at_s / 60
        samples.append(replace(BEFORE, at_s=at_s, **values))
    return samples


def test_a_median_of_slopes_ignores_a_burst() -> None:
    line = [(float(x), 2.0 * x + 1) for x in range(20)]
    assert slope(line) == 2.0
    assert slope([*line[:10], (10.5, 900.0), *line[10:]]) < 2.6
    assert slope([]) == slope([(1.0, 1.0)]) == 0.0


def test_noise_and_a_big_start_pass() -> None:
    assert complaints(BEFORE, hour(), BEFORE) == []


def test_what_grows_is_named_with_its_slope() -> None:
    leak = hour(rss_mib=2.0)
    (complaint,) = complaints(BEFORE, leak, BEFORE)
    assert complaint.startswith("rss_mib grows by 2")
    assert trends(BEFORE, leak, BEFORE)["rss_mib"].grows
    (complaint,) = complaints(BEFORE, hour(fds=0.5), BEFORE)
    assert complaint.startswith("fds grows")


def test_in_the_first_minutes_only_what_stays_behind_counts() -> None:
    assert complaints(BEFORE, hour(rss_mib=60.0)[:40], BEFORE) == []
    assert len(complaints(BEFORE, hour(rss_mib=60.0)[:200], BEFORE)) == 1
    leak = hour(fds=5.0)[:40]
    assert complaints(BEFORE, leak, BEFORE) == []
    assert complaints(BEFORE, leak, replace(BEFORE, fds=21)) == [
        "fds: 21 after everybody left, 20 before"
    ]


def test_what_stays_behind_is_named() -> None:
    after = replace(BEFORE, fds=21, sessions=1)
    assert complaints(BEFORE, hour(), after) == [
        "fds: 21 after everybody left, 20 before",
        "sessions: 1 after everybody left, 0 before",
    ]


def test_memory_comes_back_too_but_for_a_twentieth() -> None:
    assert complaints(BEFORE, hour(), replace(BEFORE, rss_mib=525.0)) == []
    assert complaints(BEFORE, hour(), replace(BEFORE, rss_mib=526.0)) == [
        "rss_mib: 526 after everybody left, 500 before"
    ]


@contextmanager
def metrics(text: str) -> Iterator[str]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_process_is_seen_from_outside() -> None:
    page = '# HELP x\ntextpro_asyncio_tasks 9.0\ntextpro_sessions{route="a"} 2.0\n'
    page += 'textpro_sessions{route="b"} 1.0\ntextpro_sessions_opened_total{route="a"} 7.0\n'
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with metrics(page) as url:
            monitor = Monitor(os.getpid(), url)
            now = monitor.look(1.5)
        assert (now.at_s, now.tasks, now.sessions) == (1.5, 9, 3)
        assert now.rss_mib > 10
        assert now.children_rss_mib > 1
        assert now.children >= 1
        assert now.fds > 3
        assert monitor.by_label("textpro_sessions") == {"a": 2.0, "b": 1.0}
    finally:
        child.communicate(b"\n")


def test_sessions_that_come_late_are_no_growth_of_what_each_of_them_has() -> None:
    """There may be more of them towards a soak's end."""
    samples = [
        replace(BEFORE, at_s=20.0 * n, sessions=(1 if n % 3 or n > 30 else 2), tasks=0)
        for n in range(36)
    ][::-1]
    samples = [
        replace(sample, at_s=20.0 * n, tasks=5 + 12 * sample.sessions + n % 4)
        for n, sample in enumerate(samples)
    ]
    assert "tasks" not in str(complaints(BEFORE, samples, BEFORE))
    leaking = [replace(s, tasks=s.tasks + s.at_s / 10) for s in samples]
    assert "tasks grows" in str(complaints(BEFORE, leaking, BEFORE))
