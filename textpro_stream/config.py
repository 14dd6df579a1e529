"""Every knob, its default and its unit, on one page.

One frozen dataclass per folder: `[turn]` in the TOML is `TurnOptions` is `turn/`. Reading files,
the environment and flags is `cli/`'s work; below that door options are passed in.
A knob needs a user and a measurement; otherwise it is a constant with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class WhisperOptions:
    """`[whisper]`: the recognizer."""

    model: str = "tiny.en"  # a name of `textpro models list`, a hub name or a folder
    block_ms: int = 640  # encoder positions emitted together
    look_ahead_ms: int = 320  # later audio that a block waits for
    dtype: Literal["float32", "bfloat16", "float16", "int8"] = "float32"  # of the layers
    commit: Literal["agreement", "attention"] = "agreement"  # two drafts agree | frame is old
    guards: bool = True  # no-speech, rate and loop guards; off only for measurement


@dataclass(frozen=True, slots=True)
class ProsodyOptions:
    """`[prosody]`: sliding windows over the committed words."""

    window_ms: int = 2000
    hop_ms: int = 1000


@dataclass(frozen=True, slots=True)
class LlmOptions:
    """`[llm]`: the language model and its sampling."""

    model: str = "smollm2-135m"  # a name of `textpro models list`, a hub name, a folder or a URL
    # An OpenAI-compatible server to reply in its place, e.g. http://localhost:11434/v1#llama3.2;
    # without #MODEL, the one that the server lists first.
    url: str = ""
    api_key: str = ""  # of that server: TEXTPRO_LLM__API_KEY or a file, never the command line
    # That server reads along while somebody speaks: replies begin sooner. One that is paid by the
    # token is paid for each reading.
    prefill: bool = True
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    # auto: what the trained projector was made for, text without one; the last two need one
    fusion: Literal["auto", "text", "interleave", "global"] = "auto"
    projector: str = ""  # safetensors file of a trained projector, or random; "" = none
    system_prompt: str = (
        "You are a voice assistant. Answer in one or two short spoken sentences, without lists."
    )
    max_tokens: int = 80
    temperature: float = 0.0  # 0 = greedy
    top_p: float = 1.0
    repetition_penalty: float = 1.1
    seed: int = 0
    context: int = 2048  # rows; oldest turns are dropped as a whole when it is nearly full

    @property
    def is_remote(self) -> bool:
        """The model is behind a URL."""
        return bool(self.url) or self.model.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """`[turn]`: who is speaking, and is the turn over?"""

    # Measured in docs/notes/0001-voice-activity.md.
    vad: Literal["silero", "webrtc"] = "silero"
    threshold: float = 0.5  # speech probability that counts as voice
    # Voice needed to open a turn. "Two" holds 250 ms of it; at 160, noise opens half as many turns
    # as at 96, and nothing is late, because the pre-roll holds what came before.
    start_ms: int = 160
    # Audio from before the voice that is heard too: above the p95 by which the detector is late at
    # 0 dB SNR. Not above silence_ms, or a turn would hear the end of the one before.
    preroll_ms: int = 500
    eager_ms: int = 200  # silence after which the reply is drafted; one draft in nine is in vain
    silence_ms: int = 500  # silence that ends a turn whose words are complete
    silence_long_ms: int = 1500  # silence that ends any turn
    barge_in: bool = True  # speech over the reply stops it
    barge_in_ms: int = 300  # voice over the reply that stops it; less only lowers its volume
    push_to_talk: bool = False  # turns begin and end by key, never by VAD


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """`[speech]`: the voice of the reply."""

    engine: Literal["espeak", "piper", "none"] = "espeak"
    # espeak: language+variant; this variant and pace are the ones that tiny.en understands best.
    # piper: an .onnx file with its .onnx.json, or their folder
    voice: str = "en-us+edward2"
    rate_wpm: int = 165


@dataclass(frozen=True, slots=True)
class DeviceOptions:
    """`[device]`: what computes."""

    name: str = "auto"  # auto | cpu | cuda | cuda:N
    threads: int = 0  # 0 = one per physical core, at most 4


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`[server]`: who may come in, and how much of it. Lists are separated by commas."""

    host: str = "127.0.0.1"  # any other address than this machine's own needs a key
    port: int = 8765  # 0 = any free one
    hosts: str = ""  # further names under which browsers reach this server
    origins: str = ""  # further pages that may connect, e.g. https://voice.example.org
    insecure: bool = False  # serve other machines without a key
    # One key; further ones, with names, come from api_key_file. Never from the command line, where
    # every user of the machine can read it: TEXTPRO_SERVER__API_KEY or the file.
    api_key: str = ""
    api_key_file: str = ""  # lines `name: key` or `key`
    tls_cert: str = ""  # PEM; with tls_key
    tls_key: str = ""
    tls: bool = False  # with a certificate made for the occasion, which browsers warn about

    mqtt: str = ""  # mqtt://[user@]host[:port][/prefix]: tell this broker, and obey it; mqtts: TLS
    mqtt_password: str = ""  # TEXTPRO_SERVER__MQTT_PASSWORD; never from the command line either
    mqtt_ca: str = ""  # certificate file to trust instead of the system's
    mqtt_text: bool = False  # publish what is said too; a house's broker has many readers

    # Who comes when there is no room is refused, not served badly: a number of sessions, and by
    # how much hearing may lag behind their microphones (p95 of the last ten seconds; 0 = any). On
    # two cores four who ask at once lagged by 0.11 s at most, six by 0.25, and then p95 of the
    # reply passed 1.5 s.
    max_sessions: int = 8
    max_late_s: float = 0.2
    max_sessions_per_ip: int = 0  # 0 = all of them: behind a proxy everybody has one address
    idle_s: float = 600.0  # without a message from the client
    session_s: float = 3600.0
    # Without anything said; then the LLM's memory of the talk goes back to being text, and is read
    # again (while somebody speaks) once there is need of it. Longer than most pauses of a talk.
    rest_s: float = 60.0
    message_bytes: int = 1_048_576
    audio_speed: float = 4.0  # live audio may come this much faster than real time ...
    audio_burst_s: float = 10.0  # ... after so many seconds at any speed
    events_per_s: float = 50.0  # JSON messages, after four seconds' worth at any speed
    errors_in_a_row: int = 20
    outgoing_bytes: int = 1_048_576  # waiting for a slow reader
    outgoing_s: float = 5.0  # likewise
    drain_s: float = 5.0  # for replies being given when the server is told to stop


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it."""

    whisper: WhisperOptions = field(default_factory=WhisperOptions)
    prosody: ProsodyOptions = field(default_factory=ProsodyOptions)
    llm: LlmOptions = field(default_factory=LlmOptions)
    turn: TurnOptions = field(default_factory=TurnOptions)
    speech: SpeechOptions = field(default_factory=SpeechOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)
    server: ServerOptions = field(default_factory=ServerOptions)
