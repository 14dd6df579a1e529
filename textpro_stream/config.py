"""Every knob, its default and its unit, on one page.

One frozen dataclass per folder: `[turn]` in the TOML is `TurnOptions` is `turn/`. One that holds
what it may not is not made: `ConfigError` names the option, the value and what is allowed. Reading
files, the environment and flags is `cli/`'s work; below that door options are passed in.
A knob needs a user and a measurement; otherwise it is a constant with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from textpro_stream.bounds import Checked, Range
from textpro_stream.errors import ConfigError

# Block and look-ahead together: with more of them Whisper's window of 30 s has no room for the
# longest segment (27 s, for want of an earlier place to cut it).
HELD_MS = 2400
GRID_MS = 20  # an encoder position

RATE_WPM = Range(80, 450)  # espeak-ng's own limits


@dataclass(frozen=True, slots=True)
class WhisperOptions(Checked):
    """`[whisper]`: the recognizer."""

    model: str = "tiny.en"  # a name of `textpro models list`, a hub name or a folder
    # Encoder positions emitted together.
    block_ms: Annotated[int, Range(160, HELD_MS, GRID_MS)] = 480
    # Later audio that a block waits for.
    look_ahead_ms: Annotated[int, Range(0, HELD_MS - 160, GRID_MS)] = 320
    # What training added to the model: auto takes the one that is shipped for it, if any; "" takes
    # none; or a file made by `textpro train encoder`.
    adapter: str = "auto"
    # Of the layers. auto: int8 on the CPU (docs/notes/0015), float32 elsewhere.
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    # What of a word tells how it was said: pooled, a lower encoder layer weighted by the decoder's
    # attention; middle, the middle decoder state, as in the paper. auto: what the checkpoint was
    # trained with, pooled where that is not said (docs/notes/0013-prosody-vector.md).
    prosody: Literal["auto", "pooled", "middle"] = "auto"
    commit: Literal["agreement", "attention"] = "agreement"  # two drafts agree | frame is old
    # At a pause, hear again as a whole what holds doubtful words, and reply to the words as they
    # are then; they are told in `transcript.revised`.
    revise: bool = True
    guards: bool = True  # no-speech, rate and loop guards; off only for measurement

    def _check_together(self) -> None:
        held_ms = self.block_ms + self.look_ahead_ms
        if held_ms > HELD_MS:
            raise ConfigError(
                f"whisper.block_ms + whisper.look_ahead_ms = {self.block_ms} +"
                f" {self.look_ahead_ms}: give {HELD_MS} ms or less together",
                key="whisper.block_ms",
                value=held_ms,
            )


@dataclass(frozen=True, slots=True)
class ProsodyOptions(Checked):
    """`[prosody]`: sliding windows over the committed words, and tone of voice."""

    window_ms: Annotated[int, Range(200, 30_000)] = 2000
    hop_ms: Annotated[int, Range(100, 30_000)] = 1000
    # Tell how each window and each turn sounds, in `prosody.window` and `turn.tone`. What is
    # guessed, and how often wrongly, is in docs/notes/0013-prosody-vector.md.
    tone: bool = True
    # What reads emotion and arousal off the recogniser's states: auto takes the one that is shipped
    # for it, if any; or a file made by `textpro train tone`.
    readout: str = "auto"


@dataclass(frozen=True, slots=True)
class LlmOptions(Checked):
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
    # How tone of voice reaches the LLM. text: not; tags: in words behind a turn, (I sound angry.),
    # where that is sure; the last two need a trained projector. auto: what the projector was made
    # for; without one tags, or text for an LLM by URL.
    fusion: Literal["auto", "text", "tags", "interleave", "global"] = "auto"
    projector: str = ""  # safetensors file of a trained projector, or random; "" = none
    system_prompt: str = (
        "You are a voice assistant. Answer in one or two short spoken sentences, without lists."
    )
    max_tokens: Annotated[int, Range(1, 4096)] = 80
    temperature: Annotated[float, Range(0, 10)] = 0.0  # 0 = greedy
    top_p: Annotated[float, Range(0, 1)] = 1.0
    repetition_penalty: Annotated[float, Range(0.1, 10)] = 1.1
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    # Rows; oldest turns are dropped as a whole when it is nearly full.
    context: Annotated[int, Range(64, 1_000_000)] = 2048

    @property
    def is_remote(self) -> bool:
        """The model is behind a URL."""
        return bool(self.url) or self.model.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class TurnOptions(Checked):
    """`[turn]`: who is speaking, and is the turn over?"""

    # Measured in docs/notes/0001-voice-activity.md.
    vad: Literal["silero", "webrtc"] = "silero"
    threshold: Annotated[float, Range(0, 1)] = 0.5  # speech probability that counts as voice
    # Voice needed to open a turn. "Two" holds 250 ms of it; at 160, noise opens half as many turns
    # as at 96, and nothing is late, because the pre-roll holds what came before.
    start_ms: Annotated[int, Range(20, 2000)] = 160
    # Audio from before the voice that is heard too: above the p95 by which the detector is late at
    # 0 dB SNR. What belongs to the turn before is never heard again.
    preroll_ms: Annotated[int, Range(0, 5000)] = 500
    # Silence after which the turn may be over: its words are decoded to their end, and the LLM
    # reads them. A fifth more of these decodings than at 200, words as good, 96 ms sooner.
    eager_ms: Annotated[int, Range(20, 10_000)] = 100
    # The reply is drafted once the turn is this near to its end, if the silence lasts. Less than a
    # draft takes delays replies; more only drafts in vain.
    draft_ms: Annotated[int, Range(0, 30_000)] = 800
    # What tells a pause from an end: the trained head, or a rule about the last words alone, which
    # wants silence_ms = 500. Measured in docs/notes/0014-end-of-turn.md.
    end_of_turn: Literal["head", "words"] = "head"
    # Of the pauses inside turns, the share that may be taken for an end. At 0.2 the mean wait is
    # nearly that of the rule about words, 0.6 s, and a third fewer of them are cut off; at 0.3 it
    # is 0.49 s, and still fewer are (docs/notes/0014).
    false_cutoffs: Annotated[float, Range(0.01, 0.9)] = 0.2
    silence_ms: Annotated[int, Range(20, 10_000)] = 300  # bound: no turn ends after less silence
    silence_long_ms: Annotated[int, Range(20, 30_000)] = 1500  # bound: after so much, every turn
    barge_in: bool = True  # speech over the reply stops it
    # Voice over the reply that stops it, if it says more than "mm-hmm"; less only lowers its
    # volume. Six times as much stops it whatever it says.
    barge_in_ms: Annotated[int, Range(0, 10_000)] = 200
    # Mean probability (geometric) of a turn's tokens below which five words or more are taken for
    # nonsense, of another language or of noise, and not answered. Below 0.35 are most of German
    # and French, and 4 of 634 English turns, none of which was understood. 0 answers everything.
    unclear: Annotated[float, Range(0, 1)] = 0.35
    push_to_talk: bool = False  # turns begin and end by key, never by VAD


@dataclass(frozen=True, slots=True)
class SpeechOptions(Checked):
    """`[speech]`: the voice of the reply."""

    engine: Literal["espeak", "piper", "none"] = "espeak"
    # espeak: language+variant; this variant and pace are the ones that tiny.en understands best.
    # piper: an .onnx file with its .onnx.json, or their folder
    voice: str = "en-us+edward2"
    rate_wpm: Annotated[int, RATE_WPM] = 165


@dataclass(frozen=True, slots=True)
class DeviceOptions(Checked):
    """`[device]`: what computes."""

    name: str = "auto"  # auto | cpu | cuda | cuda:N
    threads: Annotated[int, Range(0, 256)] = 0  # 0 = half the physical cores, at most 4


@dataclass(frozen=True, slots=True)
class ServerOptions(Checked):
    """`[server]`: who may come in, and how much of it. Lists are separated by commas."""

    host: str = "127.0.0.1"  # any other address than this machine's own needs a key
    port: Annotated[int, Range(0, 65_535)] = 8765  # 0 = any free one
    hosts: str = ""  # further names under which browsers reach this server
    origins: str = ""  # further pages that may connect, e.g. https://voice.example.org
    # Reverse proxies before us, addresses or networks; only they are believed whom they speak for.
    proxies: str = ""
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
    mqtt_discovery: str = "homeassistant"  # prefix under which Home Assistant looks for devices
    mqtt_text: bool = False  # publish what is said too; a house's broker has many readers

    # Who comes when there is no room is refused, not served badly: a number of sessions, and by
    # how much hearing may lag behind their microphones (p95 of the last ten seconds; 0 = any). On
    # two cores four who ask at once lagged by 0.11 s at most, six by 0.25, and then p95 of the
    # reply passed 1.5 s.
    max_sessions: Annotated[int, Range(1, 10_000)] = 8
    max_late_s: Annotated[float, Range(0, 60)] = 0.2
    # 0 = all of them: behind a proxy that `proxies` does not name, everybody has one address.
    max_sessions_per_ip: Annotated[int, Range(0, 10_000)] = 0
    idle_s: Annotated[float, Range(1, 1_000_000)] = 600.0  # without a message from the client
    session_s: Annotated[float, Range(1, 1_000_000)] = 3600.0
    # Without anything said; then the LLM's memory of the talk goes back to being text, and is read
    # again (while somebody speaks) once there is need of it. Longer than most pauses of a talk.
    rest_s: Annotated[float, Range(0.1, 1_000_000)] = 60.0
    message_bytes: Annotated[int, Range(1024, 2**30)] = 1_048_576
    # Of audio in one `input_audio_buffer.append` of the Realtime route, as its protocol says.
    append_bytes: Annotated[int, Range(1024, 2**30)] = 15_728_640
    # Live audio may come this much faster than real time ...
    audio_speed: Annotated[float, Range(1, 1000)] = 4.0
    audio_burst_s: Annotated[float, Range(1, 3600)] = 10.0  # ... after so many seconds at any speed
    # JSON messages, after four seconds' worth at any speed.
    events_per_s: Annotated[float, Range(1, 100_000)] = 50.0
    errors_in_a_row: Annotated[int, Range(1, 1000)] = 20
    outgoing_bytes: Annotated[int, Range(65_536, 2**30)] = 1_048_576  # waiting for a slow reader
    outgoing_s: Annotated[float, Range(0.1, 600)] = 5.0  # likewise
    # For replies being given when the server is told to stop.
    drain_s: Annotated[float, Range(0, 600)] = 5.0


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
