"""`textpro talk`: microphone -> conversation -> loudspeaker, turn after turn."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from textpro_stream.config import Settings

if TYPE_CHECKING:
    from textpro_stream.audio.microphone import Microphone
    from textpro_stream.audio.speaker import Loudspeaker
    from textpro_stream.pipeline import Conversation
    from textpro_stream.ports import AudioBackend, Report

EXAMPLES = """\
examples:
  textpro talk                          speak; interrupt it whenever you like; Ctrl-C ends
  textpro talk --push-to-talk           space begins your turn and ends it
  textpro talk --devices                microphones and loudspeakers, with their numbers
  textpro talk --microphone usb --loudspeaker 3
  textpro talk --system "You are a pirate. Answer in one sentence."

With loudspeakers instead of headphones it may hear itself: use --push-to-talk or --no-barge-in.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `talk`."""
    parser.add_argument("--devices", action="store_true", help="list audio devices, and end")
    parser.add_argument(
        "--microphone", metavar="NAME", default="", help="number or part of the name"
    )
    parser.add_argument("--loudspeaker", metavar="NAME", default="", help="likewise")
    parser.add_argument(
        "--push-to-talk", action="store_true", help="space or Enter begins and ends your turn"
    )
    parser.add_argument(
        "--no-barge-in", action="store_true", help="let it finish, whatever the microphone hears"
    )
    parser.add_argument("--no-speech", action="store_true", help="reply in text only")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run it; give the exit status."""
    from textpro_stream.audio.portaudio import PortAudio
    from textpro_stream.cli import runner

    backend = PortAudio()
    if args.devices:
        list_devices(backend)
        return 0
    turn = replace(
        settings.turn,
        push_to_talk=settings.turn.push_to_talk or args.push_to_talk,
        barge_in=settings.turn.barge_in and not args.no_barge_in,
    )
    return runner.run(_talk(args, replace(settings, turn=turn), backend))


def list_devices(backend: AudioBackend) -> None:
    """Print what can be chosen."""
    for device in backend.devices():
        uses = []
        if device.n_inputs:
            uses.append("microphone" + (" (default)" if "microphone" in device.default else ""))
        if device.n_outputs:
            uses.append("loudspeaker" + (" (default)" if "loudspeaker" in device.default else ""))
        print(f"{device.index:3}  {device.name}  {device.rate_hz} Hz  {', '.join(uses)}")


async def _talk(args: argparse.Namespace, settings: Settings, backend: AudioBackend) -> int:
    from textpro_stream.audio.devices import choose
    from textpro_stream.audio.microphone import Microphone
    from textpro_stream.audio.speaker import Loudspeaker
    from textpro_stream.cli.choose import choose_report
    from textpro_stream.cli.keys import keyboard
    from textpro_stream.cli.notices import tell_what_is_off
    from textpro_stream.cli.progress import Downloads
    from textpro_stream.pipeline import Engine
    from textpro_stream.runtime.memory import freeze_gc

    spoken = not args.no_speech and settings.speech.engine != "none"
    choose(backend.devices(), args.microphone, "microphone")  # before any model is loaded
    if spoken:
        choose(backend.devices(), args.loudspeaker, "loudspeaker")
    async with AsyncExitStack() as stack:
        keys = stack.enter_context(keyboard()) if settings.turn.push_to_talk else None
        with Downloads() as progress:
            engine = await stack.enter_async_context(
                await Engine.load(settings, speech=spoken, progress=progress)
            )
        tell_what_is_off(engine)
        microphone = Microphone(args.microphone, backend=backend)
        stack.callback(microphone.close)
        loudspeaker = None
        if spoken:
            loudspeaker = Loudspeaker(args.loudspeaker, backend=backend)
            stack.callback(loudspeaker.close)
            print(f"{microphone.device.name} -> {loudspeaker.device.name}", file=sys.stderr)
        hint = "space: speak, space: done" if keys else "speak; Ctrl-C ends"
        report = choose_report(hint=hint)
        stack.callback(report.close)
        freeze_gc()
        return await hold(engine.open(), microphone, loudspeaker, report, keys)


async def hold(
    talk: Conversation,
    microphone: Microphone,
    loudspeaker: Loudspeaker | None,
    report: Report,
    keys: AsyncIterator[str] | None = None,
) -> int:
    """Hold a conversation until the microphone is closed; 1 if it failed."""
    from textpro_stream.cli.keys import push_to_talk
    from textpro_stream.cli.notices import tell
    from textpro_stream.cli.player import Player
    from textpro_stream.events import Failed

    status = 0
    async with talk:
        report.begin(microphone.device.name, talk)
        talk.feed(microphone.chunks())
        player = Player(talk, loudspeaker) if loudspeaker is not None else None
        async with asyncio.TaskGroup() as tasks:
            beside = []
            if player is not None:
                beside.append(tasks.create_task(player.report(), name="report what was heard"))
            if keys is not None:
                turns = push_to_talk(keys, talk)
                beside.append(tasks.create_task(turns, name="keys"))
            async for event in talk:
                if player is not None:
                    player.take(event)  # before anything is drawn
                report.show(event)
                if isinstance(event, Failed):
                    tell(event.message)
                    status = 1
            for task in beside:
                task.cancel()
    return status
