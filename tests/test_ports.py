"""Fakes and real neighbours stand behind the same ports: same members, called in the same way.

Runs over the classes themselves; that types fit too, mypy proves in `support/typed_ports.py`.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from inspect import Parameter
from typing import Any

import pytest

from textpro_stream import ports

POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
OURS = ("__len__", "__call__", "__aiter__", "__aenter__", "__aexit__")  # dunders that ports name

# Who stands behind which port.
KEEPERS = {
    "Clock": (
        "textpro_stream.clock:MonotonicClock",
        "textpro_stream.clock:VirtualClock",
        "hand_clock:HandClock",
    ),
    "Observer": (
        "textpro_stream.telemetry.trace:Trace",
        "textpro_stream.telemetry.trace:Unobserved",
    ),
    "Talk": (
        "textpro_stream.pipeline.conversation:Conversation",
        "textpro_stream.bench.stepwise:StepwiseConversation",
        "scripted_talk:ScriptedTalk",
    ),
    "Stage": ("textpro_stream.prosody.windows:ProsodyTracker", "scripted:WindowPerCommit"),
    "ProsodyStage": (
        "textpro_stream.prosody.windows:ProsodyTracker",
        "scripted:WindowPerCommit",
        "textpro_stream.evaluate.evidence:_NoProsody",
    ),
    "Vad": (
        "textpro_stream.turn.vad:WebrtcVad",
        "textpro_stream.turn.vad:SileroVad",
        "scripted:LevelVad",
    ),
    "VadModel": (
        "textpro_stream.turn.vad:WebrtcVadModel",
        "textpro_stream.turn.vad:SileroVadModel",
        "scripted:LevelVad",
    ),
    "Endpointer": ("textpro_stream.turn.endpoint:Endpointer",),
    "EndOfTurn": (
        "textpro_stream.turn.completeness:Completeness",
        "textpro_stream.turn.head:Head",
    ),
    "Recognizer": (
        "textpro_stream.whisper.recognizer:Recognizer",
        "scripted:ScriptedRecognizer",
        "server_launcher:FaultyRecognizer",
    ),
    "RecognizerWork": ("textpro_stream.whisper.work:Work", "scripted:Work"),
    "Dialogue": (
        "textpro_stream.llm.local:LocalDialogue",
        "textpro_stream.llm.remote.dialogue:RemoteDialogue",
        "scripted:ScriptedDialogue",
        "server_launcher:FaultyDialogue",
    ),
    "LlmEngine": (
        "textpro_stream.llm.local:LocalEngine",
        "textpro_stream.llm.remote.engine:RemoteEngine",
    ),
    "Voice": (
        "textpro_stream.speech.voice:Voice",
        "scripted:ScriptedVoice",
        "server_launcher:FaultyVoice",
    ),
    "Synthesizer": ("textpro_stream.speech.espeak:Espeak", "textpro_stream.speech.piper:Piper"),
    "AudioStream": ("textpro_stream.audio.portaudio:_Open", "fake_devices:FakeStream"),
    "AudioBackend": ("textpro_stream.audio.portaudio:PortAudio", "fake_devices:FakeCard"),
    "ClientSocket": ("websockets.asyncio.server:ServerConnection",),
    "SessionHub": ("textpro_stream.server.hub:Hub", "scripted_hub:ScriptedHub"),
    "ClientSession": ("textpro_stream.client:Session",),
    "Report": (
        "textpro_stream.cli.report:JsonReport",
        "textpro_stream.cli.report:PlainReport",
        "textpro_stream.cli.view:LiveReport",
    ),
    "Progress": ("textpro_stream.cli.progress:Downloads",),
}
PAIRS = [(port, keeper) for port, keepers in KEEPERS.items() for keeper in keepers]


def found(name: str) -> type:
    module, _, name = name.partition(":")
    keeper: type = getattr(import_module(module), name)
    return keeper


def members(port: type) -> dict[str, Any]:
    """What a port asks for: functions and properties as they are, attributes as None."""
    asked: dict[str, Any] = dict.fromkeys(port.__annotations__)
    for name, member in vars(port).items():
        if name in OURS or not name.startswith("_"):
            asked[name] = member
    return asked


def has_value(keeper: type, name: str) -> bool:
    """A property, a field, or an attribute that its constructor sets."""
    fields = {field for base in keeper.__mro__ for field in vars(base).get("__annotations__", {})}
    constructors = [getattr(base.__init__, "__code__", None) for base in keeper.__mro__]
    if name in fields or any(code and name in code.co_names for code in constructors):
        return True
    return hasattr(keeper, name) and not callable(getattr(keeper, name))


def complaints(asked: Any, kept: Any) -> list[str]:
    """How calling one differs from calling the other."""
    wrong = []
    if inspect.iscoroutinefunction(asked) != inspect.iscoroutinefunction(kept):
        wrong.append("one of them is to be awaited")
    wanted = list(inspect.signature(asked).parameters.values())[1:]
    given = list(inspect.signature(kept).parameters.values())[1:]
    by_name = {p.name: p for p in given if p.kind is not Parameter.POSITIONAL_ONLY}
    by_place = [p for p in given if p.kind in POSITIONAL]
    takes_any = {p.kind for p in given} & {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
    used = set()
    for place, want in enumerate(wanted):
        if want.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            used |= {p.name for p in given}  # whatever comes
            if not takes_any and want.name not in by_name and len(given) < 3:
                wrong.append(f"{want} is not taken")
            continue
        by_keyword = want.kind is not Parameter.POSITIONAL_ONLY
        got = by_name.get(want.name) if by_keyword else None
        if want.kind in POSITIONAL:
            at = by_place[place] if place < len(by_place) else None
            if at is None or (by_keyword and at is not got):
                wrong.append(f"{want.name} is not number {place + 1}")
                continue
            got = at
        if got is None:
            wrong.append(f"{want.name} is missing")
            continue
        used.add(got.name)
        if want.default is not Parameter.empty and got.default is Parameter.empty:
            wrong.append(f"{want.name} has no default")
    wrong += [
        f"{p.name} is asked for, and no port knows it"
        for p in given
        if p.name not in used
        and p.default is Parameter.empty
        and p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]
    return wrong


@pytest.mark.parametrize(("port", "keeper"), PAIRS)
def test_whoever_stands_behind_a_port_keeps_it(port: str, keeper: str) -> None:
    kept_by, wrong = found(keeper), {}
    for name, asked in members(getattr(ports, port)).items():
        if not callable(asked):
            if not has_value(kept_by, name):
                wrong[name] = ["there is no such value"]
        elif not callable(kept := getattr(kept_by, name, None)):
            wrong[name] = ["there is no such method"]
        elif differences := complaints(asked, kept):
            wrong[name] = differences
    assert not wrong


def test_every_port_is_kept_by_somebody() -> None:
    named = {
        name
        for name, value in vars(ports).items()
        if inspect.isclass(value) and value.__module__ == ports.__name__
    }
    elsewhere = {
        "OpenTalk",  # a bound method: typed_ports.py
        "Session",  # of the local LLM: tests/llm
    }
    assert named == KEEPERS.keys() | elsewhere


def test_a_keeper_that_does_not_keep_it_is_told_how() -> None:
    class Late:
        async def now(self) -> float: ...
        def cpu(self, since: float) -> float: ...
        def sleep_until(self, until: float) -> None: ...

    clock = ports.Clock
    assert complaints(clock.now, Late.now) == ["one of them is to be awaited"]
    assert complaints(clock.cpu, Late.cpu) == ["since is asked for, and no port knows it"]
    assert "moment is not number 1" in complaints(clock.sleep_until, Late.sleep_until)
