from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_whisper import PACE, committed, features, ids_of, melody, pieces, silence, text_of
from torch import Tensor
from transformers import WhisperForConditionalGeneration

from textpro_stream.config import WhisperOptions
from textpro_stream.contracts import SAMPLE_RATE, AudioChunk, Ending, TokenSpan, Transcript
from textpro_stream.whisper import Recognizer, WhisperPro
from textpro_stream.whisper.blocks import Grid
from textpro_stream.whisper.decoding import Encode, encode
from textpro_stream.whisper.mel import LEAST_MAXIMUM, MelStream, normalise
from textpro_stream.whisper.model import MelWindow, Whisper
from textpro_stream.whisper.policy import Policy

CPU = torch.device("cpu")
Audio = NDArray[np.float32]

tunes = st.tuples(st.integers(0, 50), st.integers(16, 36)).map(
    lambda drawn: np.concatenate([melody(drawn[1] / 8, drawn[0]), silence(0.5)])
)
cuts = st.lists(st.integers(1, 16_000), min_size=1, max_size=8)
modest = settings(max_examples=8, deadline=None)
few = settings(max_examples=4, deadline=None)


@dataclass(frozen=True)
class Heard:
    """One committed span, comparable."""

    ids: tuple[int, ...]
    text: str
    start: int
    end: int
    logprob: float
    states: tuple[float, ...]

    @classmethod
    def of(cls, span: TokenSpan) -> Heard:
        numbers = tuple(span.states.flatten().tolist())
        return cls(span.ids, span.text, span.start, span.end, span.logprob, numbers)


def run(model: WhisperPro, audio: Audio, sizes: Sequence[int] = (3200,)) -> list[Heard]:
    """All that is committed for a clip that ends."""
    recognizer = model.open()
    transcripts = [t for chunk in pieces(audio, sizes) for t in recognizer.push(chunk)]
    transcripts += recognizer.finish()
    return [Heard.of(span) for span in committed(transcripts)]


def offline(model: WhisperPro, audio: Audio) -> list[TokenSpan]:
    recognizer = model.offline()
    assert not recognizer.push(AudioChunk(audio, 0))
    return committed(recognizer.finish())


# ------------------------------------------------------------------- the model as its makers run it


def generated(folder: Path, audio: Audio, n: int) -> list[int]:
    """At most n greedy ids of transformers, without prompt and end."""
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    config, end = model.generation_config, model.config.eos_token_id
    # A trained model says no timestamps after the token that asks for none; noise would.
    config.suppress_tokens += range(config.no_timestamps_token_id, model.config.vocab_size)
    spoken = {"language": "en", "task": "transcribe"} if config.is_multilingual else {}
    ids = model.generate(features(audio), max_new_tokens=n, do_sample=False, **spoken)
    return [token for token in ids[0].tolist() if token < end]


@pytest.mark.parametrize("folder", ["multilingual_folder", "listening_folder"])
def test_offline_is_transformers_greedy(folder: str, request: pytest.FixtureRequest) -> None:
    path, audio = request.getfixturevalue(folder), melody(3, 1)
    found = ids_of(offline(WhisperPro.load(path, WhisperOptions(dtype="float32"), CPU), audio))
    expected = generated(path, audio, 30)
    assert len(expected) > 3
    assert found[: len(expected)] == expected
    if folder == "listening_folder":  # the other never ends
        assert len(found) == len(expected) < 30


def test_offline_does_not_depend_on_the_cuts(listener: WhisperPro) -> None:
    audio, recognizer = melody(4, 3), listener.offline()
    for chunk in pieces(audio, [7, 5000, 1]):
        recognizer.push(chunk)
    assert ids_of(committed(recognizer.finish())) == ids_of(offline(listener, audio))


def test_offline_takes_clips_longer_than_a_window(listener: WhisperPro) -> None:
    starts = [span.start for span in offline(listener, melody(40, 8))]
    assert starts == sorted(starts)
    assert starts[-1] > 39 * SAMPLE_RATE
    assert max(np.diff(starts)) < 0.8 * SAMPLE_RATE  # five words a second, no hole at the seam


# ------------------------------------------------------------------------------- the invariants


def test_a_listener_commits_words_while_it_listens(listener: WhisperPro) -> None:
    recognizer = listener.open()
    while_listening = committed(t for c in pieces(melody(5, 0)) for t in recognizer.push(c))
    assert len(while_listening) > 10  # or the properties below would hold for nothing
    assert len(set(ids_of(while_listening))) > 5


@given(audio=tunes, sizes=cuts)
@modest
def test_cutting_differently_changes_nothing(
    listener: WhisperPro, audio: Audio, sizes: list[int]
) -> None:
    assert run(listener, audio, sizes) == run(listener, audio)


@given(audio=tunes, sizes=cuts, commit=st.sampled_from(["agreement", "attention"]))
@few
def test_nor_with_other_rules(
    listening_folder: Path, audio: Audio, sizes: list[int], commit: Literal["agreement"]
) -> None:
    options = WhisperOptions(
        block_ms=640, look_ahead_ms=0, dtype="float32", commit=commit, guards=False
    )
    model = WhisperPro.load(listening_folder, options, CPU)
    assert run(model, audio, sizes) == run(model, audio) != []


@given(audio=tunes, sizes=cuts, at=st.sets(st.integers(0, 40), max_size=6))
@modest
def test_a_preview_leaves_no_trace(
    listener: WhisperPro, audio: Audio, sizes: list[int], at: set[int]
) -> None:
    recognizer, transcripts = listener.open(), list[Transcript]()
    for i, chunk in enumerate(pieces(audio, sizes)):
        if i in at:
            recognizer.preview()
        transcripts += recognizer.push(chunk)
    preview = [Heard.of(span) for span in recognizer.preview().spans]
    last = recognizer.finish()
    assert [Heard.of(span) for span in committed(last)] == preview
    assert [Heard.of(span) for span in committed([*transcripts, *last])] == run(listener, audio)


@given(audio=tunes, sizes=cuts)
@few
def test_what_a_preview_tells_of_the_end_does_not_depend_on_the_cuts(
    listener: WhisperPro, audio: Audio, sizes: list[int]
) -> None:
    def ending(sizes: Sequence[int]) -> Ending:
        recognizer = listener.open()
        for chunk in pieces(audio, sizes):
            recognizer.push(chunk)
        found = recognizer.preview().ending
        assert found is not None
        return found

    one, other = ending(sizes), ending([3200])
    figures = (one.end, one.full_stop, one.comma, one.question, one.exclamation)
    assert figures == (other.end, other.full_stop, other.comma, other.question, other.exclamation)
    assert sum(np.exp(figures)) <= 1.0 + 1e-5  # of one distribution
    assert one.closed <= 0.0
    np.testing.assert_array_equal(one.states, other.states)


def test_states_of_a_preview_are_those_of_the_newest_audio(listener: WhisperPro) -> None:
    def states(audio: Audio) -> Audio:
        recognizer = listener.open()
        recognizer.push(AudioChunk(audio, 0))
        ending = recognizer.preview().ending
        assert ending is not None
        return ending.states

    short, long = states(melody(1, 3)), states(melody(20, 3))  # the latter in its second segment
    assert short.shape == (50, listener.d_prosody)
    assert long.shape == (110, listener.d_prosody)
    assert len(np.unique(long, axis=0)) == 110  # nothing twice


@pytest.mark.parametrize("look_ahead_ms", [0, 160])
def test_blocks_hear_all_that_a_position_reads(
    listening_folder: Path, look_ahead_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = WhisperOptions(block_ms=320, look_ahead_ms=look_ahead_ms)
    model = WhisperPro.load(listening_folder, options, CPU)
    faint = 1e-2 * melody(4, 14)  # below the least maximum, so the whole scales as its parts do
    frames = MelStream(model.filters).push(faint)
    assert float(frames.max()) < LEAST_MAXIMUM
    whole = normalise(frames, LEAST_MAXIMUM)
    stems = list[tuple[Tensor, Tensor]]()

    def spy(shared: Whisper, steps: Sequence[Encode]) -> Tensor:
        for step in steps:
            windows = [MelWindow.cut(mel, step.first, step.n) for mel in (step.mel, whole)]
            found, expected = map(shared.encoder.stem, windows)
            stems.append((found, expected))
        return encode(shared, steps)

    monkeypatch.setattr("textpro_stream.whisper.recognizer.encode", spy)
    recognizer = model.open()
    for chunk in pieces(faint):
        recognizer.push(chunk)
    assert len(stems) == 4000 // 320
    for found, expected in stems:
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@given(audio=tunes)
@few
def test_what_is_committed_stays(listener: WhisperPro, audio: Audio) -> None:
    recognizer, spans, then = listener.open(), list[TokenSpan](), list[Heard]()
    for chunk in pieces(audio):
        for transcript in recognizer.push(chunk):
            spans += transcript.committed
            then += map(Heard.of, transcript.committed)
            assert all(span.start >= spans[-1].end for span in transcript.hypothesis if spans)
    recognizer.finish()
    assert [Heard.of(span) for span in spans] == then


@given(audio=tunes)
@few
def test_times_go_forward(listener: WhisperPro, audio: Audio) -> None:
    end = 0
    for span in run(listener, audio):
        assert end <= span.start <= span.end
        end = span.end


@pytest.mark.parametrize("offline", [False, True])
def test_no_word_ends_after_the_audio(listener: WhisperPro, offline: bool) -> None:
    for n in (520, 4000, 8000):
        recognizer = listener.offline() if offline else listener.open()
        recognizer.push(AudioChunk(melody(1, 10)[:n], 0))
        assert all(span.end <= n for span in committed(recognizer.finish()))


def test_a_late_start_moves_times_and_nothing_else(listener: WhisperPro) -> None:
    audio, start = melody(4, 5), 123_456
    recognizer, transcripts = listener.open(start), list[Transcript]()
    for chunk in pieces(audio, start=start):
        transcripts += recognizer.push(chunk)
    transcripts += recognizer.finish()
    moved = [(s.ids, s.start - start, s.end - start) for s in committed(transcripts)]
    assert moved == [(h.ids, h.start, h.end) for h in run(listener, audio)]


def test_conversations_do_not_hear_each_other(listener: WhisperPro) -> None:
    clips = [melody(4, 6), melody(4, 7)]
    open_ones = [listener.open() for _ in clips]
    found: list[list[Transcript]] = [[], []]
    for pair in zip(*map(pieces, clips), strict=True):
        for recognizer, chunk, heard in zip(open_ones, pair, found, strict=True):
            heard += recognizer.push(chunk)
    for recognizer, heard in zip(open_ones, found, strict=True):
        heard += recognizer.finish()
    for audio, heard in zip(clips, found, strict=True):
        assert [Heard.of(span) for span in committed(heard)] == run(listener, audio)


# ---------------------------------------------------------------------------------- bounded


def held_bytes(thing: object, shared: WhisperPro, seen: set[int]) -> int:
    """Bytes of all arrays reachable from a recognizer, its shared model left out."""
    known = {id(part) for part in (shared, shared.model, shared.tokens, shared.decoder)}
    if id(thing) in known | seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        return 0 if thing is shared.filters else thing.untyped_storage().nbytes()
    if isinstance(thing, np.ndarray):
        return held_bytes(thing.base, shared, seen) if thing.base is not None else thing.nbytes
    if isinstance(thing, dict):
        return sum(held_bytes(part, shared, seen) for part in thing.values())
    if isinstance(thing, list | tuple):
        return sum(held_bytes(part, shared, seen) for part in thing)
    names = [*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ())]
    return sum(held_bytes(getattr(thing, name, None), shared, seen) for name in names)


@pytest.mark.parametrize("what", ["melody", "silence", "noise"])
def test_a_minute_costs_no_more_per_second_than_its_beginning(
    listening_folder: Path, what: str
) -> None:
    model = WhisperPro.load(listening_folder, WhisperOptions(dtype="float32"), CPU)
    noise = 0.02 * np.random.default_rng(0).standard_normal(60 * SAMPLE_RATE).astype(np.float32)
    audio = {"melody": melody(60, 8), "silence": silence(60), "noise": noise}[what]
    recognizer, sizes, works = model.open(), list[int](), list[tuple[int, ...]]()
    for chunk in pieces(audio, [SAMPLE_RATE]):
        recognizer.push(chunk)
        sizes.append(held_bytes(recognizer, model, set()))
        work = recognizer.work
        works.append(
            (work.positions_final, work.positions_provisional, work.decoder_passes, work.segments)
        )
    final, provisional, passes, segments = np.diff(np.array([(0, 0, 0, 1), *works]), axis=0).T
    # Half a minute holds a segment's whole life, so it bounds any other half minute.
    assert max(sizes[30:]) <= 1.25 * max(sizes[:30])
    assert sum(passes[30:]) <= 1.5 * sum(passes[:30]) + 50
    n_heard = 60 * 50
    assert n_heard * 0.95 <= sum(final) <= n_heard * 1.5  # a roll hears some seconds again
    assert sum(provisional) <= n_heard
    assert max(final + provisional) <= 12 * 50
    assert sum(segments) <= 60 / 8
    assert (recognizer.work.tokens_committed == 0) == (what == "silence")


@pytest.mark.parametrize("commit", ["agreement", "attention"])
def test_segments_roll_without_a_seam(
    listening_folder: Path, commit: Literal["agreement", "attention"]
) -> None:
    model = WhisperPro.load(listening_folder, WhisperOptions(dtype="float32", commit=commit), CPU)
    recognizer = model.open()
    transcripts = [t for chunk in pieces(melody(60, 0)) for t in recognizer.push(chunk)]
    spans = committed([*transcripts, *recognizer.finish()])
    assert recognizer.work.segments >= 3
    starts = [span.start for span in spans]
    assert max(np.diff(starts, prepend=0, append=60 * SAMPLE_RATE)) < 0.8 * SAMPLE_RATE
    assert len(ids_of(spans)) == pytest.approx(60 * 50 / PACE, abs=2)  # none twice, none lost


def test_speech_behind_a_false_end_is_heard_after_all(listening_folder: Path) -> None:
    model = WhisperPro.load(listening_folder, WhisperOptions(block_ms=640, dtype="float32"), CPU)
    # By these rules it ends too early once.
    model.policy = replace(model.policy, commit=replace(model.policy.commit, old=32))
    starts = [heard.start for heard in run(model, melody(60, 3))]
    assert 2 * SAMPLE_RATE < max(np.diff(starts)) < 5 * SAMPLE_RATE
    assert starts[-1] > 59 * SAMPLE_RATE


@pytest.mark.parametrize(
    ("block_ms", "look_ahead_ms", "guards"),
    [(2400, 0, True), (1200, 1200, True), (1200, 1200, False), (320, 2080, True)],
)
def test_extreme_blocks_fit_the_window(
    listening_folder: Path, block_ms: int, look_ahead_ms: int, guards: bool
) -> None:
    options = WhisperOptions(block_ms=block_ms, look_ahead_ms=look_ahead_ms, guards=guards)
    model = WhisperPro.load(listening_folder, options, CPU)
    assert run(model, melody(33, 9), [SAMPLE_RATE])[-1].start > 20 * SAMPLE_RATE


def test_the_smallest_block_hears_too(listening_folder: Path) -> None:
    options = WhisperOptions(block_ms=160, look_ahead_ms=0)
    model = WhisperPro.load(listening_folder, options, CPU)
    assert len(run(model, melody(3, 9))) > 5


# ------------------------------------------------------------------------------- short and bad


@pytest.mark.parametrize("n", [0, 1, 160, 200, 201, 319, 320, 520, 4000])
def test_the_shortest_clips(listener: WhisperPro, n: int) -> None:
    recognizer = listener.open()
    recognizer.push(AudioChunk(melody(1, 10)[:n], 0))
    assert len(recognizer.preview().spans) < 10
    assert len(recognizer.finish()) == 1


def test_the_shortest_clips_offline(listener: WhisperPro) -> None:
    for n in (0, 1, 319, 320):
        assert len(offline(listener, melody(1, 10)[:n])) < 10


def test_nothing_at_all(listener: WhisperPro) -> None:
    assert committed(listener.open().finish()) == []
    recognizer = listener.open()
    assert recognizer.preview().spans == ()
    assert committed(recognizer.finish()) == []


def test_empty_chunks_change_nothing(listener: WhisperPro) -> None:
    audio, recognizer, transcripts = melody(3, 11), listener.open(), list[Transcript]()
    for chunk in pieces(audio):
        transcripts += recognizer.push(AudioChunk(audio[:0], chunk.start))
        transcripts += recognizer.push(chunk)
    transcripts += recognizer.finish()
    assert [Heard.of(span) for span in committed(transcripts)] == run(listener, audio)


def test_nothing_may_follow_the_end(listener: WhisperPro) -> None:
    recognizer = listener.open()
    recognizer.finish()
    with pytest.raises(RuntimeError, match="push after finish"):
        recognizer.push(AudioChunk(silence(1), 0))


def test_spans_carry_a_state_per_token(listener: WhisperPro) -> None:
    recognizer: Recognizer = listener.open()
    transcripts = [t for c in pieces(melody(4, 12)) for t in recognizer.push(c)]
    transcripts += recognizer.finish()
    for span in committed(transcripts):
        assert span.states.shape == (len(span.ids), listener.d_prosody)
        assert span.states.dtype == torch.float32
        assert span.logprob <= 0
    joined = ids_of(committed(transcripts))
    assert text_of(committed(transcripts)) == listener.tokens.text(joined)
    assert recognizer.work.tokens_committed == len(joined)


class Busy:
    """An observer that keeps a list."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def span(self, name: str) -> Busy:
        self.names.append(name)
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_an_observer_hears_of_encoder_and_decoder(listener: WhisperPro) -> None:
    busy = Busy()
    recognizer = listener.open(observer=busy)
    recognizer.push(AudioChunk(melody(1, 13), 0))
    assert busy.names == ["encoder", "decoder"] * 3  # blocks of 320 ms


# ------------------------------------------------------------------------------- heard as a whole


def doubting(model: WhisperPro, doubted: float = 0.0) -> Policy:
    """Rules under which every word is in doubt, or none."""
    commit = replace(
        model.policy.commit, doubted=doubted, least=1, most=model.model.dims.n_positions
    )
    return replace(model.policy, revise=True, commit=commit)


@modest
@given(tune=tunes)
def test_words_in_doubt_are_in_the_end_what_the_audio_says_in_one_block(
    listener: WhisperPro, tune: Audio
) -> None:
    rules = doubting(listener)
    whole = listener.open(policy=replace(rules, grid=Grid(block=1400, look_ahead=0)))
    whole.push(AudioChunk(tune, 0))
    recognizer = listener.open(policy=rules)
    for chunk in pieces(tune):
        recognizer.push(chunk)
    revision, expected = recognizer.revise(), whole.revise()
    assert revision is not None
    assert expected is not None
    assert revision.kept == 0
    found, wanted = revision.spans, expected.spans
    assert [(s.ids, s.start, s.end) for s in found] == [(s.ids, s.start, s.end) for s in wanted]


@modest
@given(tune=tunes, at=st.sets(st.integers(0, 40), max_size=6))
def test_hearing_again_in_between_changes_nothing(
    listener: WhisperPro, tune: Audio, at: set[int]
) -> None:
    recognizer = listener.open(policy=doubting(listener))
    found = []
    for i, chunk in enumerate(pieces(tune)):
        if i in at:
            recognizer.revise()
        found += recognizer.push(chunk)
    recognizer.revise()
    found += recognizer.finish()
    assert [Heard.of(span) for span in committed(found)] == run(listener, tune)


def test_a_long_turn_is_heard_again_from_its_last_roll_on(listener: WhisperPro) -> None:
    audio = np.concatenate([melody(20, 4), silence(1.5), melody(12, 4)])
    recognizer = listener.open(640, policy=doubting(listener))
    found = [s for c in pieces(audio, start=640) for s in committed(recognizer.push(c))]
    revision = recognizer.revise()
    assert recognizer.work.segments > 1
    assert revision is not None
    assert 0 < revision.kept <= len(found)
    assert revision.spans[0].start >= found[revision.kept - 1].end
    assert revision.spans[-1].end <= 640 + len(audio)


def test_words_that_are_sure_are_not_heard_again(listener: WhisperPro) -> None:
    recognizer = listener.open(policy=doubting(listener, -100.0))
    for chunk in pieces(melody(3, 1)):
        recognizer.push(chunk)
    assert recognizer.preview().spans
    assert recognizer.revise() is None


def test_nothing_heard_is_nothing_to_hear_again(listener: WhisperPro) -> None:
    assert listener.open(policy=doubting(listener)).revise() is None
