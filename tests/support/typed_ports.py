"""Whoever stands behind a port, as mypy sees it: a class that does not fit fails `make check`.

Never run. `test_ports.py` holds the same classes to the ports by their signatures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fake_devices import FakeCard, FakeStream
    from hand_clock import HandClock
    from scripted import (
        LevelVad,
        ScriptedDialogue,
        ScriptedRecognizer,
        ScriptedVoice,
        WindowPerCommit,
        Work,
    )
    from scripted_hub import ScriptedHub
    from scripted_talk import Script, ScriptedTalk
    from server_launcher import FaultyDialogue, FaultyRecognizer, FaultyVoice, ScriptedEngine
    from websockets.asyncio.server import ServerConnection

    from textpro_stream import ports
    from textpro_stream.audio.portaudio import PortAudio
    from textpro_stream.bench.stepwise import StepwiseConversation
    from textpro_stream.cli.progress import Downloads
    from textpro_stream.cli.report import JsonReport, PlainReport
    from textpro_stream.cli.view import LiveReport
    from textpro_stream.client import Session
    from textpro_stream.clock import MonotonicClock, VirtualClock
    from textpro_stream.llm.local import LocalDialogue, LocalEngine
    from textpro_stream.llm.remote.dialogue import RemoteDialogue
    from textpro_stream.llm.remote.engine import RemoteEngine
    from textpro_stream.pipeline import Conversation, Engine
    from textpro_stream.prosody import ProsodyTracker
    from textpro_stream.server.hub import Hub
    from textpro_stream.speech.espeak import Espeak
    from textpro_stream.speech.piper import Piper
    from textpro_stream.speech.voice import Voice
    from textpro_stream.telemetry.trace import Trace, Unobserved
    from textpro_stream.turn import Completeness, Endpointer
    from textpro_stream.turn.head import Head
    from textpro_stream.turn.vad import SileroVad, SileroVadModel, WebrtcVad, WebrtcVadModel
    from textpro_stream.whisper import Recognizer
    from textpro_stream.whisper import Work as RealWork

    def clocks(a: MonotonicClock, b: VirtualClock, c: HandClock) -> Sequence[ports.Clock]:
        return a, b, c

    def observers(a: Trace, b: Unobserved) -> Sequence[ports.Observer]:
        return a, b

    def talks(a: Conversation, b: StepwiseConversation, c: ScriptedTalk) -> Sequence[ports.Talk]:
        return a, b, c

    def openers(a: Engine, b: Script, c: ScriptedEngine) -> Sequence[ports.OpenTalk]:
        return a.open, b.open, c.open

    def prosody(a: ProsodyTracker, b: WindowPerCommit) -> Sequence[ports.ProsodyStage]:
        return a, b

    def vads(a: WebrtcVad, b: SileroVad, c: LevelVad) -> Sequence[ports.Vad]:
        return a, b, c

    def vad_models(a: WebrtcVadModel, b: SileroVadModel, c: LevelVad) -> Sequence[ports.VadModel]:
        return a, b, c

    def endpointers(a: Endpointer) -> Sequence[ports.Endpointer]:
        return (a,)

    def ends_of_turn(a: Completeness, b: Head) -> Sequence[ports.EndOfTurn]:
        return a, b

    def recognizers(
        a: Recognizer, b: ScriptedRecognizer, c: FaultyRecognizer
    ) -> Sequence[ports.Recognizer]:
        return a, b, c

    def recognizer_work(a: RealWork, b: Work) -> Sequence[ports.RecognizerWork]:
        return a, b

    def dialogues(
        a: LocalDialogue, b: RemoteDialogue, c: ScriptedDialogue, d: FaultyDialogue
    ) -> Sequence[ports.Dialogue]:
        return a, b, c, d

    def llm_engines(a: LocalEngine, b: RemoteEngine) -> Sequence[ports.LlmEngine]:
        return a, b

    def voices(a: Voice, b: ScriptedVoice, c: FaultyVoice) -> Sequence[ports.Voice]:
        return a, b, c

    def synthesizers(a: Espeak, b: Piper) -> Sequence[ports.Synthesizer]:
        return a, b

    def audio_streams(a: FakeStream) -> Sequence[ports.AudioStream]:
        return (a,)

    def audio_backends(a: PortAudio, b: FakeCard) -> Sequence[ports.AudioBackend]:
        return a, b

    def sockets(a: ServerConnection) -> Sequence[ports.ClientSocket]:
        return (a,)

    def hubs(a: Hub, b: ScriptedHub) -> Sequence[ports.SessionHub]:
        return a, b

    def client_sessions(a: Session) -> Sequence[ports.ClientSession]:
        return (a,)

    def reports(a: JsonReport, b: PlainReport, c: LiveReport) -> Sequence[ports.Report]:
        return a, b, c

    def progress(a: Downloads) -> Sequence[ports.Progress]:
        return (a,)
