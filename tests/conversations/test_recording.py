"""A conversation that was written down says the same when it is told again."""

import asyncio
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import Script, ScriptedDialogue, chunks, sound
from stand import Stand

from textpro_stream.clock import VirtualClock
from textpro_stream.commands import (
    Add,
    Announce,
    Clear,
    Command,
    Configure,
    Finish,
    Press,
    Release,
    Remove,
    Respond,
    Rest,
    Say,
    Truncate,
)
from textpro_stream.config import Settings, TurnOptions
from textpro_stream.contracts import AudioChunk, Message, ReplyOptions, Tool
from textpro_stream.errors import ConfigError
from textpro_stream.events import Event, Finished, TurnLatency
from textpro_stream.pipeline.recording import Recorder, read_recording
from textpro_stream.wire import to_line

SPEECH = sound(
    ("silence", 0.4),
    ("voice", 1.0),
    ("silence", 0.3),
    ("voice", 0.6),
    ("silence", 1.4),
    ("voice", 0.8),
    ("silence", 0.7),
)
WORDS = [(" What", 0.8), (" time", 1.2), (" is it?", 2.1), (" Now", 4.1)]

TURNLESS = st.sampled_from(
    [
        Press(),
        Release(),
        Clear(),
        Rest(),
        Configure(replies=False),
        Configure(turn=TurnOptions(silence_ms=400, barge_in=False), voice=False, speed=1.25),
        Configure(tools=(Tool("lamp", "switches", "{}"),)),
        Add(Message("m1", "user", "Hello")),
        Add(Message("m2", "system", "Be brief"), after=""),
        Remove("m1"),
        Truncate("a1", 3),
    ]
)
ASKED = st.sampled_from(["say", "respond", "announce"])


def told(events: list[Event]) -> list[str]:
    """All that was said, but for how long the machine took."""
    return [
        to_line(event, source="", wall_s=0.0)
        if not isinstance(event, TurnLatency | Finished)
        else f"{type(event).__name__} {event.turn}"
        for event in events
    ]


def without_marks(lines: list[str]) -> list[str]:
    values = [json.loads(line) if line.startswith("{") else line for line in lines]
    return [v if isinstance(v, str) else {**v, "marks": None} for v in values]


async def hold(stand: Stand, plan: list[str | AudioChunk | Command], folder: Path) -> list[Event]:
    with Recorder(folder, Settings(), live=False, clock=VirtualClock()) as recorder:
        async with stand.open(recorder=recorder) as talk:
            for item in plan:
                match item:
                    case "say":
                        await talk.push(Say(talk.next_turn(), "Typed"))
                    case "respond":
                        await talk.push(Respond(talk.next_turn(), ReplyOptions(max_tokens=9)))
                    case "announce":
                        await talk.push(Announce(talk.next_turn(), "Dinner is ready."))
                    case _:
                        await talk.push(item)
            await talk.push(Finish())
            return [event async for event in talk]


async def again(stand: Stand, folder: Path) -> list[Event]:
    recording = read_recording(folder, Settings())
    async with stand.open(live=recording.live, reserved=recording.turns) as talk:
        await recording.tell(talk, VirtualClock())
        return [event async for event in talk]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    cuts=st.lists(st.integers(1, len(SPEECH)), max_size=6),
    at=st.lists(st.tuples(st.integers(0, 6), TURNLESS | ASKED), max_size=4),
)
def test_told_again_a_conversation_says_the_same(device, cuts, at) -> None:
    plan: list[str | AudioChunk | Command] = [*chunks(SPEECH, cuts)]
    for place, command in at:
        plan.insert(min(place, len(plan)), command)

    def stand() -> Stand:
        return Stand(device, Script(list(WORDS)), ScriptedDialogue(), None).with_options(
            barge_in=False
        )

    async def both() -> None:
        with tempfile.TemporaryDirectory() as name:
            first = await hold(stand(), plan, Path(name) / "recording")
            second = await again(stand(), Path(name) / "recording")
        assert without_marks(told(second)) == without_marks(told(first))

    asyncio.run(both())


async def test_a_folder_holds_one_recording(stand: Stand, tmp_path: Path) -> None:
    await hold(stand, [], tmp_path)
    with pytest.raises(ConfigError, match="holds a recording already"):
        Recorder(tmp_path, Settings(), live=False, clock=VirtualClock())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"wall_s": 0, "type": "jump"}', "line 1: type 'jump' is no command"),
        ('{"wall_s": 0, "type": "say", "turn": 1}', "line 1: say: text is missing"),
        ('{"wall_s": 0, "type": "say", "turn": "1", "text": ""}', "say.turn: give int"),
        ("nonsense", "line 1"),
    ],
)
async def test_damage_is_told_in_one_line(
    stand: Stand, tmp_path: Path, line: str, complaint: str
) -> None:
    await hold(stand, [], tmp_path)
    (tmp_path / "commands.jsonl").write_text(line + "\n")
    with pytest.raises(ConfigError, match=complaint) as error:
        read_recording(tmp_path, Settings())
    assert "\n" not in str(error.value)


async def test_settings_come_back_and_keys_are_not_written(stand: Stand, tmp_path: Path) -> None:
    await hold(stand, [Press()], tmp_path)
    about = (tmp_path / "recording.json").read_text()
    assert "api_key" not in about
    assert read_recording(tmp_path, Settings()).settings == Settings()
