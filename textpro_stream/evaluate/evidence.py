"""What a conversation knows at each pause, gathered by its own listener.

Each turn goes through the detector, the recogniser and the listener of a conversation whose
endpoint machine is told never to end, so that every pause is asked about to its end. What was known
is kept on disk: hearing costs a third of the audio's length, judging nothing.

Behind the first quarter of a second of an end, background of the clip's own level takes the place
of what follows in the file: there somebody else may talk, or the file may end, and whoever has to
decide cannot know either. So nothing that is heard later in a silence may count as evidence here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from textpro_stream import store
from textpro_stream.clock import MonotonicClock
from textpro_stream.config import Settings, TurnOptions
from textpro_stream.contracts import (
    FRAME,
    SAMPLE_RATE,
    AudioChunk,
    Ending,
    ListenedFrame,
    OpenTurn,
    ProsodyWindow,
    TokenSpan,
    seconds,
)
from textpro_stream.evaluate.mix import read_audio, surround
from textpro_stream.evaluate.policies import Silences
from textpro_stream.evaluate.turns import Pause, Turn
from textpro_stream.files import replacing
from textpro_stream.pipeline.listener import Listener
from textpro_stream.pipeline.numbers import TurnNumbers
from textpro_stream.ports import EndOfTurn, VadModel
from textpro_stream.telemetry.trace import Trace
from textpro_stream.turn import BargeIn, Endpointer, load_vad

if TYPE_CHECKING:
    from textpro_stream.whisper import WhisperPro

# The longest silences that the options allow: pauses are watched to their end.
_NEVER_MS, _NEVER_LONG_MS = 10_000, 30_000
_BEFORE = SAMPLE_RATE // 2  # background in front of a turn; the pre-roll is as long
_REAL = round(0.26 * SAMPLE_RATE)  # of the silence at an end: the pause is announced by then
_BEHIND = SAMPLE_RATE // 2  # background behind it
_NEAR_S = 0.2  # a pause of the run within this of a listed one is that one
_SAVED_EVERY = 50  # turns


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One pause, and what there was to judge it by."""

    pause: Pause
    audio: Path
    turn_start_s: float
    turn: OpenTurn  # as the judge was shown it first; its spans are one, without states
    asked_s: float  # into the silence, then

    @property
    def turn_key(self) -> str:
        """Which turn: pauses of one turn are drawn together."""
        return f"{self.audio}@{self.turn_start_s}"


class _Witness:
    """An `EndOfTurn` that is never sure, and remembers what it was asked."""

    def __init__(self) -> None:
        self.questions: list[tuple[OpenTurn, int]] = []

    def p_end(self, turn: OpenTurn, silence: int, /) -> float:
        """Note it; 0."""
        self.questions.append((turn, silence))
        return 0.0

    def p_required(self, silence: int, options: TurnOptions, /) -> float:
        """More than there is: it never ends a turn."""
        return 1.0


class _NoProsody:
    """A stage that tells nothing of how it was said."""

    def push(self, _: ListenedFrame, /) -> Sequence[ProsodyWindow]:
        return ()

    def finish(self) -> Sequence[ProsodyWindow]:
        return ()

    def tone(self, _: Sequence[TokenSpan], /) -> None:
        return None


def gather(
    turns: Sequence[Turn],
    whisper: WhisperPro,
    vad: VadModel,
    options: TurnOptions,
    *,
    name: str = "",
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Asked]:
    """Hear the turns, and tell what was known at their pauses.

    Args:
        turns: of `read_turns`.
        whisper: the recogniser.
        vad: the detector.
        options: when a pause is one.
        name: of the recogniser and its options; what was heard with others is heard again.
        cache: file (.npz) of what was heard before; written again while it grows.
        progress: told of turns heard, and how many there are to hear.

    Returns:
        The pauses that the detector found too, in order of `turns`.
    """
    known = _read(cache) if cache is not None and cache.is_file() else {}
    keys = [_key(turn, name) for turn in turns]
    missing = [(key, turn) for key, turn in zip(keys, turns, strict=True) if key not in known]
    clips: dict[Path, NDArray[np.float32]] = {}
    for i, (key, turn) in enumerate(missing, 1):
        if turn.audio not in clips:
            clips = {turn.audio: read_audio(turn.audio)}  # turns are sorted by file
        known[key] = _hear(turn, clips[turn.audio], whisper, vad, options)
        progress(i, len(missing))
        if cache is not None and (i % _SAVED_EVERY == 0 or i == len(missing)):
            _write(cache, known)
    return [
        replace(asked, pause=pauses[asked.pause.id], audio=turn.audio)
        for key, turn in zip(keys, turns, strict=True)
        for pauses in [{pause.id: pause for pause in turn.pauses}]
        for asked in known[key]
    ]


def _hear(
    turn: Turn,
    clip: NDArray[np.float32],
    whisper: WhisperPro,
    vad: VadModel,
    options: TurnOptions,
) -> list[Asked]:
    witness = _Witness()
    watching = replace(
        options,
        silence_ms=_NEVER_MS,
        silence_long_ms=_NEVER_LONG_MS,
        draft_ms=0,  # nothing is asked but what is known at that moment
        push_to_talk=False,
    )
    listener = open_listener(whisper, vad, watching, witness, BargeIn(watching))
    begin = max(0, round(turn.start_s * SAMPLE_RATE) - FRAME * 5)  # 100 ms: a voice fades in
    samples = surround(clip[begin : _until(turn)], _BEFORE, _BEHIND)
    found: list[Asked] = []
    n_asked = 0
    for start in range(0, len(samples) - FRAME + 1, FRAME):
        listener.push([AudioChunk(samples[start : start + FRAME], start)])
        for question, silence in witness.questions[n_asked:]:
            silent_s = seconds(start + FRAME - silence - _BEFORE + begin)
            pause = _nearest(turn.pauses, silent_s)
            if pause is not None and all(asked.pause != pause for asked in found):
                found.append(
                    Asked(
                        pause, turn.audio, turn.start_s, _without_states(question), seconds(silence)
                    )
                )
        n_asked = len(witness.questions)
    listener.finish()
    return found


def silences_of(asked: Sequence[Asked]) -> Silences:
    """Pauses as policies meet them."""
    numbers = {key: i for i, key in enumerate(dict.fromkeys(one.turn_key for one in asked))}
    return Silences(
        np.array([one.pause.silence_s for one in asked]),
        np.array([one.pause.label == "end" for one in asked], bool),
        np.array([numbers[one.turn_key] for one in asked], int),
    )


def tell_progress(done: int, of: int, what: str = "turns heard") -> None:
    """Say now and then how far it is."""
    if done % _SAVED_EVERY == 0 or done == of:
        print(f"{done} of {of} {what}", flush=True)


def load_hearing(settings: Settings) -> tuple[WhisperPro, VadModel]:
    """The recogniser and the detector of some options."""
    import torch

    from textpro_stream.runtime.hardware import torch_device
    from textpro_stream.whisper import WhisperPro

    torch.set_num_threads(settings.device.threads or torch.get_num_threads())
    folder = store.resolve(settings.whisper.model, "whisper")
    whisper = WhisperPro.load(folder, settings.whisper, torch_device(settings.device))
    silero = settings.turn.vad == "silero"
    vad = load_vad(settings.turn, store.resolve("silero-vad", "vad") if silero else None)
    return whisper, vad


def heard_with(settings: Settings, whisper: WhisperPro) -> str:
    """What evidence depends on, for its cache: options, and the weights, adapters included."""
    model = whisper.model
    total = sum(float(t.double().sum()) for t in (*model.parameters(), *model.buffers()))
    turn = settings.turn
    return repr(
        (settings.whisper, whisper.policy, f"{total:.3f}", turn.vad, turn.threshold, turn.eager_ms)
    )


def open_listener(
    whisper: WhisperPro,
    vad: VadModel,
    options: TurnOptions,
    end_of_turn: EndOfTurn,
    barge_in: BargeIn,
) -> Listener:
    """A conversation's listener, without prosody, on its own."""
    trace = Trace(MonotonicClock())
    return Listener(
        lambda start: whisper.open(start, trace),
        Endpointer(vad.open(), options, end_of_turn.p_required),
        _NoProsody(),
        barge_in,
        end_of_turn=end_of_turn,
        numbers=TurnNumbers(()),
        preroll_ms=options.preroll_ms,
        unclear=options.unclear,
        trace=trace,
        clock=MonotonicClock(),
    )


def _until(turn: Turn) -> int:
    """Samples of the file that are heard: to the end of the last pause, or shortly into it."""
    last = turn.pauses[-1]
    least_s = last.start_s * SAMPLE_RATE + _REAL
    return round(least_s if last.end_s is None else max(least_s, last.end_s * SAMPLE_RATE))


def _nearest(pauses: Sequence[Pause], start_s: float) -> Pause | None:
    near = min(pauses, key=lambda pause: abs(pause.start_s - start_s))
    return near if abs(near.start_s - start_s) <= _NEAR_S else None


def _without_states(turn: OpenTurn) -> OpenTurn:
    spans = (*turn.spans, *turn.tail)
    logprob = float(np.mean([span.logprob for span in spans])) if spans else 0.0
    start, end = (spans[0].start, spans[-1].end) if spans else (0, 0)
    whole = TokenSpan((), turn.text, start, end, logprob, None)
    return replace(turn, spans=(whole,), tail=())


def _key(turn: Turn, name: str) -> str:
    pauses = [(pause.id, pause.start_s, pause.end_s) for pause in turn.pauses]
    text = json.dumps([name, turn.audio.name, turn.start_s, pauses])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write(path: Path, known: dict[str, list[Asked]]) -> None:
    """All that was heard, as one file; never seen half written."""
    heard: list[dict[str, Any]] = []
    states: list[NDArray[np.float16]] = []
    for key, asked in known.items():
        entries: list[dict[str, Any]] = []
        for one in asked:
            ending, span = one.turn.ending, one.turn.spans[0]
            figures: dict[str, Any] | None = None
            n_states = 0
            if ending is not None:
                figures = {f: getattr(ending, f) for f in Ending.__slots__ if f != "states"}
                states.append(ending.states.astype(np.float16))
                n_states = len(ending.states)
            entries.append(
                {
                    "pause": asdict(one.pause),
                    "audio": str(one.audio),
                    "turn_start_s": one.turn_start_s,
                    "text": span.text,
                    "span": [span.start, span.end, span.logprob],
                    "asked_s": one.asked_s,
                    "ending": figures,
                    "n_states": n_states,
                }
            )
        heard.append({"key": key, "asked": entries})
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.concatenate(states) if states else np.zeros((0, 0), np.float16)
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, heard=np.array(json.dumps(heard)), states=rows)


def _read(path: Path) -> dict[str, list[Asked]]:
    with np.load(path) as stored:
        heard, states = json.loads(str(stored["heard"])), stored["states"]
    known: dict[str, list[Asked]] = {}
    at = 0
    for item in heard:
        known[item["key"]] = []
        for one in item["asked"]:
            rows = states[at : at + one["n_states"]].astype(np.float32)
            at += one["n_states"]
            figures = one["ending"]
            start, end, logprob = one["span"]
            turn = OpenTurn(
                1,
                (TokenSpan((), one["text"], start, end, logprob, None),),
                over=True,
                ending=None if figures is None else Ending(**figures, states=rows),
            )
            pause = Pause(**one["pause"])
            asked = Asked(pause, Path(one["audio"]), one["turn_start_s"], turn, one["asked_s"])
            known[item["key"]].append(asked)
    return known
