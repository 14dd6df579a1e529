"""Counters and latencies for Prometheus, in a registry of this server's own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal
from weakref import WeakSet

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from textpro_stream.events import (
    Event,
    Failed,
    ReplyAudio,
    ReplyDucked,
    ReplyEnded,
    TurnEnded,
    TurnLatency,
)

if TYPE_CHECKING:
    from textpro_stream.pipeline import Engine
    from textpro_stream.ports import Talk

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCIES = (  # of TurnLatency; docs/latency.md defines them
    "endpoint_wait",
    "asr_lag",
    "ttft_commit",
    "ttft_ready",
    "tts_ttfb",
    "server_perceived",
)
# Seconds. Figures below zero are real: work that was done before the endpoint.
EDGES = (-1.0, -0.5, -0.2, -0.1, 0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
LAGS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)  # seconds
RefusalReason = Literal["host", "origin", "key", "guessing", "draining", "overloaded"]
CLIENT_MARKS = ("false_cutoff", "first_audio_played")  # others are counted as "other"


class Metrics:
    """What a server counts. One object per server; it never holds text or audio."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.sessions = Gauge("textpro_sessions", "Sessions now.", ["route"], registry=registry)
        self.opened = Counter(
            "textpro_sessions_opened", "Sessions so far.", ["route"], registry=registry
        )
        self.refused = Counter(
            "textpro_refused", "Clients that were not let in.", ["reason"], registry=registry
        )
        self.hangups = Counter(
            "textpro_hangups",
            "Connections that the server ended.",
            ["closing"],
            registry=registry,
        )
        self.turns = Counter(
            "textpro_turns", "Turns that ended, by reason.", ["reason"], registry=registry
        )
        self.replies = Counter(
            "textpro_replies", "Replies that ended, by reason.", ["reason"], registry=registry
        )
        self.barge_ins = Counter(
            "textpro_barge_ins", "Replies that speech stopped.", registry=registry
        )
        self.ducked = Counter(
            "textpro_ducked", "Times that a reply was played quietly.", registry=registry
        )
        self.latency = Histogram(
            "textpro_latency_seconds",
            "Latencies of turns, by name.",
            ["name"],
            buckets=EDGES,
            registry=registry,
        )
        self.wasted_tokens = Counter(
            "textpro_spec_waste_tokens", "Reply tokens decoded in vain.", registry=registry
        )
        self.wasted_speech = Counter(
            "textpro_spec_waste_speech_seconds", "Reply audio made in vain.", registry=registry
        )
        self.audio_in = Counter(
            "textpro_audio_in_seconds", "Audio heard.", ["route"], registry=registry
        )
        self.audio_out = Counter(
            "textpro_audio_out_seconds", "Reply audio given out.", registry=registry
        )
        self.prompt_tokens = Counter(
            "textpro_prompt_tokens",
            "Tokens in front of replies, as the LLM tells.",
            registry=registry,
        )
        self.cached_tokens = Counter(
            "textpro_cached_tokens",
            "Of those, the ones that were there before the reply was asked for.",
            registry=registry,
        )
        self.client_marks = Counter(
            "textpro_client_marks", "What clients marked, by name.", ["name"], registry=registry
        )
        self.errors = Counter(
            "textpro_errors", "Errors told to clients, by code.", ["code"], registry=registry
        )
        self.faults = Gauge(
            "textpro_model_faults", "Failures of each model so far.", ["model"], registry=registry
        )
        self.steps = Gauge(
            "textpro_device_steps_waiting", "Steps that wait for the device.", registry=registry
        )
        self.worst_wait = Gauge(
            "textpro_device_worst_wait_seconds",
            "The longest that a step waited since this was last asked.",
            registry=registry,
        )
        self.late = Gauge(
            "textpro_hearing_late_seconds",
            "By how much hearing lags behind the microphones, p95 of the last ten seconds.",
            registry=registry,
        )
        self.cache_rows = Gauge(
            "textpro_cache_rows", "Rows of the LLM's cache in use.", registry=registry
        )
        self.loop_lag = Histogram(
            "textpro_loop_lag_seconds",
            "How late the event loop woke.",
            buckets=LAGS,
            registry=registry,
        )
        # Also those that have ended, until nothing holds them: a leak would show.
        self.talks: WeakSet[Talk] = WeakSet()
        self.tasks = Gauge("textpro_asyncio_tasks", "Tasks of the event loop.", registry=registry)
        self.ready = Gauge("textpro_ready", "1 while /readyz says so.", registry=registry)

    def observe(self, event: Event) -> None:
        """Count what a conversation says."""
        match event:
            case TurnEnded(reason=reason):
                self.turns.labels(reason).inc()
            case ReplyAudio(chunk=chunk):
                self.audio_out.inc(len(chunk.samples) / chunk.rate_hz)
            case ReplyDucked(ducked=True):
                self.ducked.inc()
            case ReplyEnded(reason=reason):
                self.replies.labels(reason).inc()
                if reason == "barge_in":
                    self.barge_ins.inc()
            case TurnLatency(marks=marks):
                for name in LATENCIES:
                    if name in marks:
                        self.latency.labels(name).observe(marks[name])
                self.wasted_tokens.inc(marks.get("spec_waste", 0.0))
                self.wasted_speech.inc(marks.get("spec_waste_speech_s", 0.0))
                self.prompt_tokens.inc(marks.get("prompt_tokens", 0.0))
                self.cached_tokens.inc(marks.get("cached_tokens", 0.0))
            case Failed(code=code):
                self.errors.labels(code).inc()
            case _:
                pass

    def refuse(self, reason: RefusalReason) -> None:
        """A client was not let in."""
        self.refused.labels(reason).inc()

    def mark(self, name: str) -> None:
        """A client marked something; any name counts, but only known ones by name."""
        self.client_marks.labels(name if name in CLIENT_MARKS else "other").inc()

    def text(self, engine: Engine, *, ready: bool) -> bytes:
        """Everything in Prometheus' text format."""
        self.ready.set(ready)
        self.tasks.set(len(asyncio.all_tasks()))
        self.cache_rows.set(sum(talk.tokens_cached for talk in self.talks))
        load = engine.load_figures()
        self.steps.set(load.waiting)
        self.worst_wait.set(load.worst_wait_s)
        self.late.set(engine.late_s)
        for model, n in engine.faults.items():
            self.faults.labels(model).set(n)
        return generate_latest(self.registry)
